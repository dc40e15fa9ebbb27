package project

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sizes of the drawing, in pixels.
const (
	svgMargin  = 16
	boxHeight  = 40
	boxGap     = 16 // between boxes of a level
	levelGap   = 72 // between levels, for the lines
	letter     = 8  // width of a letter of the font
	maxLetters = 40 // of a label; the whole name is the box's title
)

// GraphSVG draws the actions as a picture that stands alone: levels from left
// to right, a curve from each need to who needs it. It has no script, no link
// and no style from outside; names are escaped.
func GraphSVG(p *Project, states map[string]string) string {
	boxes, width, height := layout(p, states)
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="%d" height="%d" viewBox="0 0 %d %d" font-family="ui-monospace, monospace" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&out, "<title>%s in %s</title>\n", counted(len(boxes), "action"), counted(len(p.graph.levels), "level"))
	out.WriteString(`<g fill="none" stroke="#8a8a8a" stroke-width="1.5">` + "\n")
	for _, level := range p.graph.levels {
		for _, name := range level {
			to := boxes[name]
			for _, need := range distinct(p.needsOf(name)) {
				from := boxes[need]
				x1, y1, x2, y2 := from.x+from.width, from.y+boxHeight/2, to.x, to.y+boxHeight/2
				bend := (x2 - x1) / 2
				fmt.Fprintf(&out, `<path d="M%d %d C%d %d %d %d %d %d"/>`+"\n", x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
			}
		}
	}
	out.WriteString("</g>\n")
	for _, level := range p.graph.levels {
		for _, name := range level {
			boxes[name].draw(&out, name, states[name])
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// A box is an action's place in the drawing.
type box struct{ x, y, width int }

// layout puts the levels side by side. Inside a level a box stands near the
// middle of what it needs, which keeps most lines from crossing.
func layout(p *Project, states map[string]string) (boxes map[string]box, width, height int) {
	boxes = make(map[string]box, len(p.Actions))
	x := svgMargin
	for _, level := range p.graph.levels {
		names := slices.Clone(level)
		pull := make(map[string]int, len(names))
		for i, name := range names {
			pull[name] = svgMargin + i*(boxHeight+boxGap)
			if needs := p.needsOf(name); len(needs) > 0 {
				sum := 0
				for _, need := range needs {
					sum += boxes[need].y
				}
				pull[name] = sum / len(needs)
			}
		}
		slices.SortStableFunc(names, func(a, b string) int { return pull[a] - pull[b] })
		widest, y := 0, svgMargin
		for _, name := range names {
			widest = max(widest, utf8.RuneCountInString(label(name)), utf8.RuneCountInString(label(states[name])))
		}
		for _, name := range names {
			boxes[name] = box{x: x, y: y, width: (widest + 2) * letter}
			y += boxHeight + boxGap
		}
		height = max(height, y-boxGap+svgMargin)
		x += (widest+2)*letter + levelGap
	}
	return boxes, max(x-levelGap, svgMargin) + svgMargin, max(height, 2*svgMargin)
}

func label(name string) string {
	runes := []rune(visible(name))
	if len(runes) > maxLetters {
		runes = append(runes[:maxLetters-1], '…')
	}
	return string(runes)
}

func (b box) draw(out *strings.Builder, name, state string) {
	l := lookOf(state)
	title := visible(name)
	y := b.y + boxHeight/2 + 4
	if state != "" {
		title += ": " + visible(state)
		y -= 7
	}
	fmt.Fprintf(out, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="%s"/>`,
		html.EscapeString(title), b.x, b.y, b.width, boxHeight, l.fill, l.line)
	fmt.Fprintf(out, `<text x="%d" y="%d">%s</text>`, b.x+letter, y, html.EscapeString(label(name)))
	if state != "" {
		fmt.Fprintf(out, `<text x="%d" y="%d" font-size="11" fill="%s">%s</text>`, b.x+letter, y+15, l.line, html.EscapeString(label(state)))
	}
	out.WriteString("</g>\n")
}
