// Package waiter is the program of a container that was started in advance: it
// reads one command from a FIFO and becomes it.
//
// It must run in any image, so it needs nothing of one: some two hundred bytes
// of machine code that use neither stack nor libraries. They are written in Go's
// assembler, so that a plain go build is all it takes, and put into an ELF file
// by Program. It decides nothing: which paths are tried, in which order, and
// what is said when none is there was worked out by Encode; addresses in what it
// reads are those that it is loaded at.
//
// A FIFO that ends before the command is whole ends the program: when the worker
// that made the container dies, so does the container, having run nothing.
package waiter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// MaxCommand is how long an encoded command may be, in bytes.
const MaxCommand = 1 << 20

// Unfed is the program's exit code when its FIFO ended without a command.
const Unfed = 125

// base is the address at which a command is read.
const base = 0x10000000

// ErrTooLong says that a command does not fit.
var ErrTooLong = errors.New("the command is too long to be handed to a waiting container")

// A Command is what the program becomes.
type Command struct {
	Dir  string   // the working directory
	Args []string // Args[0] is looked for on the PATH of Env, as execvp does
	Env  []string // name=value
}

// Encode lays a command out as the program wants it in memory:
//
//	size, dir, argv, envp, paths, shell's argv, sentence, its length
//	the four arrays of addresses, each ended by a zero
//	the strings, each ended by a zero byte
func (c Command) Encode() ([]byte, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("a command needs a program")
	}
	for _, s := range append(append([]string{c.Dir}, c.Args...), c.Env...) {
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("a zero byte in %q: no program can be given it", s)
		}
	}
	paths := c.paths()
	sentence := fmt.Sprintf("sluice: %q cannot be started: there is no such program, or it may not be run\n", c.Args[0])
	shell := append([]string{"/bin/sh", ""}, c.Args[1:]...) // the second is filled in by the program

	const words = 8
	arrays := [][]string{c.Args, c.Env, paths, shell}
	at := words * 8
	starts := make([]int, len(arrays))
	for i, a := range arrays {
		starts[i] = at
		at += (len(a) + 1) * 8
	}
	out := make([]byte, at)
	put := func(at int, v int) { binary.LittleEndian.PutUint64(out[at:], uint64(v)) } //nolint:gosec // sizes
	text := func(s string) int {
		at := base + len(out)
		out = append(append(out, s...), 0)
		return at
	}
	for i, a := range arrays {
		put(16+8*i, base+starts[i])
		for n, s := range a {
			put(starts[i]+8*n, text(s))
		}
		if len(out) > MaxCommand {
			return nil, ErrTooLong
		}
	}
	put(8, text(c.Dir))
	put(48, text(sentence))
	put(56, len(sentence))
	put(0, len(out))
	if len(out) > MaxCommand {
		return nil, ErrTooLong
	}
	return out, nil
}

// paths are where the program is looked for.
func (c Command) paths() []string {
	name := c.Args[0]
	if name == "" {
		return nil
	}
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := "/bin:/usr/bin" // execvp's, where there is none
	for _, v := range c.Env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	var all []string
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		all = append(all, dir+"/"+name)
	}
	return all
}
