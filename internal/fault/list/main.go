// Command list writes the fault points into a document: `make docs`.
package main

import (
	"flag"
	"fmt"
	"os"

	"sluice/internal/fault"
)

func main() {
	file := flag.String("write", "", "the document; without it the list is printed")
	flag.Parse()
	if err := run(*file); err != nil {
		fmt.Fprintln(os.Stderr, "list:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	if file == "" {
		_, err := fmt.Print(fault.List())
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := fault.Insert(string(data))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644) //nolint:gosec // a document
}
