package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// apiMain asks the gateway's API as a job server does, and prints the status
// and the answer: api METHOD PATH TOKEN [FILE]. Variables in the file are those
// of the environment. It fails if the API refuses.
func apiMain() {
	if err := askAPI(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func askAPI(args []string) error {
	if len(args) < 3 || len(args) > 4 {
		return fmt.Errorf("usage: api METHOD PATH TOKEN [FILE]")
	}
	var body []byte
	if len(args) == 4 {
		data, err := os.ReadFile(args[3])
		if err != nil {
			return err
		}
		body = []byte(os.ExpandEnv(string(data)))
	}
	r, err := http.NewRequest(args[0], strings.TrimSpace(os.Getenv("API"))+args[1], bytes.NewReader(body))
	if err != nil {
		return err
	}
	if args[2] != "" {
		r.Header.Set("Authorization", args[2])
	}
	resp, err := (&http.Client{Timeout: 3 * time.Minute}).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n", resp.StatusCode, data)
	if resp.StatusCode >= 300 {
		return fmt.Errorf("refused")
	}
	return nil
}
