package project

import "fmt"

// A Problem is one fault of a project file.
type Problem struct {
	Message string `json:"message"` // what is wrong, in one sentence
	Hint    string `json:"hint"`    // what to do about it
	Rule    Rule   `json:"rule"`    // which rule is broken
	Line    int    `json:"line"`    // from 1; 0 if the fault has no place
	Column  int    `json:"column"`  // in characters, from 1; 0 if it has none
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Message)
}

// Problems is everything that is wrong with a file. The first is the one that
// the rules, in their order, meet first.
type Problems []Problem

// Error joins the sentences, one to a line.
func (p Problems) Error() string {
	var text []byte
	for i, problem := range p {
		if i > 0 {
			text = append(text, '\n')
		}
		text = append(text, problem.String()...)
	}
	return string(text)
}

// Err returns p as an error, or nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}
