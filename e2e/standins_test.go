package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// standIns are images that are called as upstream's are, and run the file of
// the study that they are given as a shell script.
var standIns = map[string][]string{
	"ehrql:v1":    {"/bin/sh", "-c", `shift; exec /bin/sh "$@"`, "ehrql"}, // generate-dataset FILE …
	"ask:v1":      {"/bin/sh", "-c", askScript, "ask"},
	"python:v2":   {"/bin/sh"},
	"r:v2":        {"/bin/sh"},
	"stata-mp:v1": {"/bin/sh"},
}

// askScript is upstream's program that asks the database whether it is in
// maintenance: here the database says whose rows it has, and is taken to be in
// the state that TEMP_DATABASE_NAME names. It talks of the URL as a driver's
// traceback may, and more than anybody wants to read.
const askScript = `[ "$1" = in_maintenance_mode ] || exit 2
echo "cannot connect to $DATABASE_URL" >&2
[ "$(nc database-test 5432 </dev/null)" = "rows of test" ] || exit 3
[ "${DATABASE_URL#*its-password}" != "$DATABASE_URL" ] || exit 4
[ "$TEMP_DATABASE_NAME" = fails ] && exit 1
[ "$TEMP_DATABASE_NAME" = hangs ] && exec sleep 1000
[ -z "$TEMP_DATABASE_NAME" ] || { head -c 1000000 /dev/zero | tr '\0' x; printf '\n%s\n' "$TEMP_DATABASE_NAME"; }`

// makeStandIns makes them of the image sh:v1.
func makeStandIns() error {
	for name, entry := range standIns {
		quoted, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		id, err := exec.Command("docker", "create", prefix+"sh:v1").Output()
		if err != nil {
			return fmt.Errorf("make image %s: %w", name, err)
		}
		box := strings.TrimSpace(string(id))
		out, err := exec.Command("docker", "commit", "--change", "ENTRYPOINT "+string(quoted), box, prefix+name).CombinedOutput()
		if rm, rmErr := exec.Command("docker", "rm", box).CombinedOutput(); err == nil {
			out, err = rm, rmErr
		}
		if err != nil {
			return fmt.Errorf("make image %s: %w: %s", name, err, out)
		}
	}
	return nil
}

// allImages names every image of these tests.
func allImages() []string {
	names := []string{"awk:v1", "sh:v1"}
	for name := range standIns {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
