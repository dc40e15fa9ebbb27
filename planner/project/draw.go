package project

import (
	"fmt"
	"strings"
)

// The three drawings of a project show the actions that run when everything is
// asked for. Where states is not nil, it has a word for the state of an action
// (succeeded, failed, running, …), which is shown beside its name.

// GraphText draws the actions as lines, level by level, each with what it
// needs.
func GraphText(p *Project, states map[string]string) string {
	var out strings.Builder
	for i, level := range p.graph.levels {
		fmt.Fprintf(&out, "level %d\n", i+1)
		for _, name := range level {
			fmt.Fprintf(&out, "  %s", visible(name))
			if state := states[name]; state != "" {
				fmt.Fprintf(&out, " [%s]", visible(state))
			}
			if needs := p.needsOf(name); len(needs) > 0 {
				shown := make([]string, len(needs))
				for j, need := range needs {
					shown[j] = visible(need)
				}
				fmt.Fprintf(&out, " <- %s", strings.Join(shown, ", "))
			}
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// GraphMermaid draws the actions as a Mermaid flow chart. Nodes have numbers
// for names, and labels are escaped, so that no name can break the chart.
func GraphMermaid(p *Project, states map[string]string) string {
	var out strings.Builder
	out.WriteString("flowchart LR\n")
	ids := map[string]string{}
	for _, level := range p.graph.levels {
		for _, name := range level {
			ids[name] = fmt.Sprintf("a%d", len(ids)+1)
			label := mermaidText(name)
			if state := states[name]; state != "" {
				label += "<br/>" + mermaidText(state)
			}
			fmt.Fprintf(&out, "  %s[\"%s\"]\n", ids[name], label)
		}
	}
	for _, level := range p.graph.levels {
		for _, name := range level {
			for _, need := range distinct(p.needsOf(name)) {
				fmt.Fprintf(&out, "  %s --> %s\n", ids[need], ids[name])
			}
		}
	}
	for _, level := range p.graph.levels {
		for _, name := range level {
			if state := states[name]; state != "" {
				look := lookOf(state)
				fmt.Fprintf(&out, "  style %s fill:%s,stroke:%s\n", ids[name], look.fill, look.line)
			}
		}
	}
	return out.String()
}

// mermaidText keeps letters, digits and a few harmless signs; everything else
// becomes a numeric entity.
func mermaidText(text string) string {
	var out strings.Builder
	for _, r := range visible(text) {
		if r > 0x7f || r == ' ' || r == '_' || r == '-' || r == '.' || r == '/' ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			out.WriteRune(r)
			continue
		}
		fmt.Fprintf(&out, "#%d;", r)
	}
	return out.String()
}

// distinct drops names that came before.
func distinct(names []string) []string {
	seen := make(map[string]bool, len(names))
	var kept []string
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			kept = append(kept, name)
		}
	}
	return kept
}

// A look is how a state is coloured. The words of the state are shown too, so
// that nobody needs the colour.
type look struct{ fill, line string }

var looks = map[string]look{
	"succeeded": {"#d8f0dc", "#2f7d3b"},
	"failed":    {"#fadcd9", "#b3261e"},
	"running":   {"#d9e8fb", "#1f5fa8"},
	"pending":   {"#fdf2cf", "#8a6d00"},
	"cancelled": {"#e6e6e6", "#5f5f5f"},
}

func lookOf(state string) look {
	if l, known := looks[state]; known {
		return l
	}
	return look{"#f6f6f6", "#5f5f5f"}
}
