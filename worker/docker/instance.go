package docker

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// instance returns the id of a worker's own folder, made with its first use.
// Names are unique in a backend; two fleets that share an engine may well have
// workers of the same name, and must not take each other's containers for
// leftovers of their own.
func instance(dir string) (string, error) {
	path := filepath.Join(dir, "instance")
	id, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		id = []byte(randomHex(8))
		if err = os.MkdirAll(dir, 0o755); err == nil {
			err = writeWhole(path, id)
		}
	}
	if err != nil {
		return "", fmt.Errorf("name the worker's folder: %w", err)
	}
	name := strings.TrimSpace(string(id))
	if len(name) != 16 || strings.Trim(name, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%s does not hold the id of a worker's folder; remove it, and the containers that are left", path)
	}
	return name, nil
}

// writeWhole writes a file that others see whole or not at all.
func writeWhole(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// randomHex returns so many random bytes, written as hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
