//go:build !nonats

package backing

import (
	"context"
	"errors"
)

const built = true // with NATS

func (s *Store) openNATS(context.Context, *Gateway) (Engine, error) {
	return Engine{}, errors.New("the engine is not there yet")
}
