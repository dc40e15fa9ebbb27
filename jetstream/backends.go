package jetstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Backends returns the backends that the server is provisioned for, in order:
// those that have a persister's consumer.
func (c *Conn) Backends(ctx context.Context) ([]string, error) {
	var names []string
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.stream(ctx, Files)
		if err != nil {
			return err
		}
		names = nil
		list := s.ConsumerNames(ctx)
		for name := range list.Name() {
			if backend, ok := strings.CutPrefix(name, PersisterConsumer("")); ok {
				names = append(names, backend)
			}
		}
		return list.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list the backends: %w", err)
	}
	slices.Sort(names)
	return names, nil
}
