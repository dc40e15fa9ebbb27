package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/messages"
	"sluice/planner"
)

// A settable is one name of `sluice flags`, spelled as upstream's operators
// have it where they have it.
type settable struct {
	name string // ends in "." if a pool's name follows
	help string
	get  func(s *messages.Setting) map[string]string // by what follows the name
	set  func(s *messages.Setting, rest, value string) error
}

// settables is every name, in the order in which they are listed.
var settables = []settable{
	{"paused", "true or nothing: nothing new starts", switchOf(func(s *messages.Setting) *messages.Switch { return s.Paused }, "true"),
		setSwitch(func(s *messages.Setting) **messages.Switch { return &s.Paused }, "true", true)},
	{"mode", "db-maintenance or nothing: as a program found out", func(s *messages.Setting) map[string]string {
		return one(s.Maintenance != nil, "db-maintenance")
	}, func(s *messages.Setting, rest, value string) error {
		if s.Maintenance != nil && s.Maintenance.Manual {
			return nil // a person's word counts more
		}
		return setSwitch(func(s *messages.Setting) **messages.Switch { return &s.Maintenance }, "db-maintenance", false)(s, rest, value)
	}},
	{"manual-db-maintenance", "on or nothing: as a person says", func(s *messages.Setting) map[string]string {
		return one(s.Maintenance != nil && s.Maintenance.Manual, "on")
	}, setSwitch(func(s *messages.Setting) **messages.Switch { return &s.Maintenance }, "on", true)},
	{"reboot", "true or nothing: running jobs are stopped and wait", switchOf(func(s *messages.Setting) *messages.Switch { return s.Reboot }, "true"),
		setSwitch(func(s *messages.Setting) **messages.Switch { return &s.Reboot }, "true", true)},
	{"drain", "names of workers that take nothing", func(s *messages.Setting) map[string]string {
		return one(len(s.Drain) > 0, strings.Join(s.Drain, ","))
	}, func(s *messages.Setting, _, value string) error { s.Drain = words(value); return nil }},
	{"pool-limit.", "slots of that pool on the whole backend", func(s *messages.Setting) map[string]string {
		out := map[string]string{}
		for pool, limit := range s.Limits {
			out[pool] = strconv.FormatFloat(limit, 'g', -1, 64)
		}
		return out
	}, func(s *messages.Setting, pool, value string) error {
		if value == "" {
			delete(s.Limits, pool)
			return nil
		}
		limit, err := strconv.ParseFloat(value, 64)
		if s.Limits == nil {
			s.Limits = map[string]float64{}
		}
		s.Limits[pool] = limit
		return err
	}},
	{"cpus", "processors of each job", func(s *messages.Setting) map[string]string {
		return one(s.JobLimits.CPUs > 0, strconv.FormatFloat(s.JobLimits.CPUs, 'g', -1, 64))
	}, func(s *messages.Setting, _, value string) (err error) {
		s.JobLimits.CPUs = 0
		if value != "" {
			s.JobLimits.CPUs, err = strconv.ParseFloat(value, 64)
		}
		return err
	}},
	{"memory", "memory of each job, such as 4G", sizeOf(func(l *messages.Limits) *int64 { return &l.Memory }), setSize(func(l *messages.Limits) *int64 { return &l.Memory })},
	{"disk", "what each job may write, such as 100G", sizeOf(func(l *messages.Limits) *int64 { return &l.Disk }), setSize(func(l *messages.Limits) *int64 { return &l.Disk })},
	{"processes", "processes of each job", func(s *messages.Setting) map[string]string {
		return one(s.JobLimits.Processes > 0, strconv.FormatInt(s.JobLimits.Processes, 10))
	}, func(s *messages.Setting, _, value string) (err error) {
		s.JobLimits.Processes = 0
		if value != "" {
			s.JobLimits.Processes, err = strconv.ParseInt(value, 10, 64)
		}
		return err
	}},
	{"time-limit", "time of each job, such as 36h", func(s *messages.Setting) map[string]string {
		return one(s.JobLimits.Time > 0, s.JobLimits.Time.String())
	}, func(s *messages.Setting, _, value string) (err error) {
		s.JobLimits.Time = 0
		if value != "" {
			s.JobLimits.Time, err = time.ParseDuration(value)
		}
		return err
	}},
	{"weights", "@FILE, a job-resource-weights file; nothing for none", func(s *messages.Setting) map[string]string {
		return one(len(s.Weights) > 0, fmt.Sprintf("%d rules", len(s.Weights)))
	}, setWeights},
	{"disclosure", "what outcomes tell beyond counts and codes: " + strings.Join(messages.Disclosures, ", "), func(s *messages.Setting) map[string]string {
		return one(len(s.Disclosure) > 0, strings.Join(s.Disclosure, ","))
	}, func(s *messages.Setting, _, value string) error { s.Disclosure = words(value); return nil }},
}

// settableOf finds a name; rest is what follows one that ends in ".".
func settableOf(name string) (s settable, rest string, ok bool) {
	for _, s := range settables {
		if s.name == name && !strings.HasSuffix(s.name, ".") {
			return s, "", true
		}
		if rest, found := strings.CutPrefix(name, s.name); found && strings.HasSuffix(s.name, ".") && rest != "" {
			return s, rest, true
		}
	}
	return settable{}, "", false
}

func one(on bool, value string) map[string]string {
	if !on {
		return nil
	}
	return map[string]string{"": value}
}

// words splits at commas; nothing for an empty text.
func words(value string) []string {
	if value == "" {
		return nil
	}
	list := strings.Split(value, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func switchOf(get func(*messages.Setting) *messages.Switch, on string) func(*messages.Setting) map[string]string {
	return func(s *messages.Setting) map[string]string { return one(get(s) != nil, on) }
}

func setSwitch(which func(*messages.Setting) **messages.Switch, on string, manual bool) func(*messages.Setting, string, string) error {
	return func(s *messages.Setting, _, value string) error {
		switch value {
		case on:
			turn(which(s), true, "", manual)
		case "", "false", "off":
			turn(which(s), false, "", manual)
		default:
			return fmt.Errorf("%s is not %s, and not nothing", messages.Quote(value), on)
		}
		return nil
	}
}

func sizeOf(which func(*messages.Limits) *int64) func(*messages.Setting) map[string]string {
	return func(s *messages.Setting) map[string]string {
		n := *which(&s.JobLimits)
		return one(n > 0, strconv.FormatInt(n, 10))
	}
}

func setSize(which func(*messages.Limits) *int64) func(*messages.Setting, string, string) error {
	return func(s *messages.Setting, _, value string) error {
		var size byteSize
		if value != "" {
			if err := size.UnmarshalText([]byte(value)); err != nil {
				return err
			}
		}
		*which(&s.JobLimits) = int64(size)
		return nil
	}
}

func setWeights(s *messages.Setting, _, value string) error {
	s.Weights = nil
	file, ok := strings.CutPrefix(value, "@")
	switch {
	case value == "":
		return nil
	case !ok:
		return fmt.Errorf("%s is not @ and a file's name", messages.Quote(value))
	}
	data, err := readSmall(file)
	if err != nil {
		return fmt.Errorf("read weights: %w", err)
	}
	rules, err := planner.ParseWeights("", data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, r := range rules {
		s.Weights = append(s.Weights, messages.Weight{Workspace: r.Workspace, Pattern: r.Pattern, Slots: r.Slots})
	}
	return nil
}
