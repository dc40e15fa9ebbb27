// Sluice runs study pipelines next to data that must not leave the building.
package main

import "sluice/internal/cli"

func main() { cli.Main() }
