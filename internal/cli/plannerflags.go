package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sluice/messages"
	"sluice/planner"
)

// plannerFlags are what an operator sets for a planner. Upstream's operators
// have some of it in a variable for each backend: see config.
type plannerFlags struct {
	Backends  []string           `help:"Backends that requests may name." default:"test,tpp,emis" env:"BACKENDS" group:"Planner"`
	Databases []string           `help:"Databases that requests may name." default:"default" env:"SLUICE_DATABASES" group:"Planner"`
	Limits    map[string]float64 `name:"pool-limit" help:"Slots of a pool on a whole backend, as pool=slots. For one backend: <BACKEND>_MAX_WORKERS, <BACKEND>_MAX_DB_WORKERS, or sluice flags." env:"SLUICE_POOL_LIMITS" group:"Planner"`
	Attempts  int                `name:"max-attempts" help:"Attempts of one job, where machines fail." default:"3" env:"SLUICE_MAX_ATTEMPTS" group:"Planner"`
	Weights   string             `name:"weights-dir" help:"Folder of job-resource-weights_<backend>.ini files: the slots that some actions take." type:"path" env:"SLUICE_WEIGHTS_DIR" group:"Planner"`
}

// config turns the flags, and the variables of each backend, into a planner's
// configuration: <BACKEND>_MAX_WORKERS and <BACKEND>_MAX_DB_WORKERS limit the
// pools, <BACKEND>_JOB_CPU_COUNT and <BACKEND>_JOB_MEMORY_LIMIT each job.
func (f plannerFlags) config() (planner.Config, error) {
	c := planner.DefaultConfig()
	c.Backends, c.Databases, c.PoolLimits, c.MaxAttempts = f.Backends, f.Databases, f.Limits, f.Attempts
	c.BackendLimits, c.JobLimits = map[string]map[string]float64{}, map[string]messages.Limits{}
	var errs []error
	for _, b := range f.Backends {
		number := func(name string) float64 {
			v, err := backendNumber(b, name)
			errs = append(errs, err)
			return v
		}
		c.BackendLimits[b] = map[string]float64{}
		if n := number("MAX_WORKERS"); n > 0 {
			c.BackendLimits[b][c.DefaultPool], c.BackendLimits[b][c.DatabasePool] = n, n // as upstream has it
		}
		if n := number("MAX_DB_WORKERS"); n > 0 {
			c.BackendLimits[b][c.DatabasePool] = n
		}
		limits := messages.Limits{CPUs: number("JOB_CPU_COUNT")}
		if text := os.Getenv(backendVariable(b, "JOB_MEMORY_LIMIT")); text != "" {
			var size byteSize
			if err := size.UnmarshalText([]byte(text)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", backendVariable(b, "JOB_MEMORY_LIMIT"), err))
			}
			limits.Memory = int64(size)
		}
		c.JobLimits[b] = limits
		weights, err := readWeights(f.Weights, b)
		errs = append(errs, err)
		c.Weights = append(c.Weights, weights...)
	}
	if err := errors.Join(errs...); err != nil {
		return c, exit(ExitUsage, err)
	}
	return c, nil
}

// backendVariable is upstream's name of a variable for one backend.
func backendVariable(backend, name string) string {
	return strings.ToUpper(strings.ReplaceAll(backend, "-", "_")) + "_" + name
}

// backendNumber reads such a variable; 0 if it is not set.
func backendNumber(backend, name string) (float64, error) {
	variable := backendVariable(backend, name)
	text := os.Getenv(variable)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0 && n <= 1_000_000) {
		return 0, fmt.Errorf("%s is %s; it must be a number above zero", variable, messages.Quote(text))
	}
	return n, nil
}

// readWeights reads a backend's file of weights; there need not be one.
func readWeights(dir, backend string) ([]planner.Weight, error) {
	if dir == "" {
		return nil, nil
	}
	path := filepath.Join(dir, "job-resource-weights_"+backend+".ini")
	data, err := readSmall(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	list, err := planner.ParseWeights(backend, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
