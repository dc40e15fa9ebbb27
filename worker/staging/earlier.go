package staging

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// maxWorkspaceManifest bounds a workspace's manifest that is read, in bytes.
const maxWorkspaceManifest = 256 << 20

// earlierOutputs returns the paths that earlier runs left in a study's folder,
// from the manifest there. They are no code, even when the project no longer
// names them: an action that writes one again has written something new, and
// none may live on another's by accident.
func earlierOutputs(folder string) (map[string]bool, error) {
	path := filepath.Join(folder, "metadata", "manifest.json")
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxWorkspaceManifest {
		return nil, errors.Join(fmt.Errorf("%s cannot be read as a manifest: remove it to run everything anew", path), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read what earlier runs left: %w", err)
	}
	var manifest struct {
		Outputs map[string]json.RawMessage `json:"outputs"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, fmt.Errorf("read what earlier runs left: %s: %w", path, err)
	}
	paths := make(map[string]bool, len(manifest.Outputs))
	for p := range manifest.Outputs {
		paths[p] = true
	}
	return paths, nil
}
