// Command child reaches fault points: its arguments, in order.
package main

import (
	"fmt"
	"os"
	"time"

	"sluice/internal/fault"
)

func main() {
	defer fmt.Println("deferred")
	fault.OnCut(func(lasts time.Duration) { fmt.Println("cut for", lasts) })
	for _, point := range os.Args[1:] {
		fault.At(point)
		fmt.Println("past", point)
	}
}
