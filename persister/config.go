package persister

import (
	"errors"
	"fmt"
	"strings"

	"sluice/messages"
)

// A Config is what an operator may set. The zero value is not valid; begin
// with DefaultConfig.
type Config struct {
	Backend     string // whose files this persister takes
	Concurrency int    // files messages handled at once; those of one workspace are made visible one after another
	Copies      int    // of them, those whose files are at work: the others wait for the server
	Tries       int    // deliveries after which files that are missing or not as listed are called unusable
	Checks      Checks // of moderately sensitive files

	FailedAside    bool // the files of a failed job lie beside its log, and its workspace stays as it is
	DeleteObsolete bool // what an action that succeeds no longer makes leaves the highly sensitive tier, too
}

// Checks bounds what may enter the moderately sensitive tier. The defaults are
// the reference's.
type Checks struct {
	MaxSize int64    // bytes
	MaxRows int      // of a .csv file, the header not counted
	Types   []string // suffixes with their dot, case-sensitive
}

// DefaultConfig returns a complete configuration but for the backend's name.
func DefaultConfig() Config {
	return Config{Concurrency: 32, Copies: 8, Tries: 3, Checks: DefaultChecks()}
}

// DefaultChecks returns the reference's bounds (common/config.py and
// pipeline/constants.py, LEVEL4_FILE_TYPES).
func DefaultChecks() Checks {
	return Checks{
		MaxSize: 16 << 20,
		MaxRows: 5000,
		Types:   []string{".csv", ".jpg", ".jpeg", ".png", ".svg", ".svgz", ".html", ".txt", ".log", ".json", ".md"},
	}
}

// Check reports every value that cannot work, with its name.
func (c Config) Check() error {
	var errs []error
	if err := messages.CheckBackend(c.Backend); err != nil {
		errs = append(errs, fmt.Errorf("backend: %w", err))
	}
	if c.Concurrency < 1 || c.Concurrency > 256 {
		errs = append(errs, fmt.Errorf("concurrency is %d; it must be between 1 and 256", c.Concurrency))
	}
	if c.Copies < 1 || c.Copies > c.Concurrency {
		errs = append(errs, fmt.Errorf("copies is %d; it must be between 1 and the concurrency, %d", c.Copies, c.Concurrency))
	}
	if c.Tries < 1 {
		errs = append(errs, fmt.Errorf("tries is %d; it must be at least 1", c.Tries))
	}
	if c.Checks.MaxSize < 1 {
		errs = append(errs, fmt.Errorf("checks.max_size is %d; it must be at least 1 byte", c.Checks.MaxSize))
	}
	if c.Checks.MaxRows < 0 {
		errs = append(errs, fmt.Errorf("checks.max_rows is %d; it must not be negative", c.Checks.MaxRows))
	}
	for _, t := range c.Checks.Types {
		if !strings.HasPrefix(t, ".") || len(t) < 2 || strings.Contains(t, "/") {
			errs = append(errs, fmt.Errorf("checks.types: %s is not a suffix such as .csv", messages.Quote(t)))
		}
	}
	return errors.Join(errs...)
}
