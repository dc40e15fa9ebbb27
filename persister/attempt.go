package persister

import (
	"context"
	"errors"

	"sluice/messages"
)

func (p *Persister) handle(ctx context.Context, d *messages.Delivery) error {
	return errors.New("not there yet")
}
