package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"ds4/runtime/client"
	"ds4/runtime/config"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// serverPatience is how long a server may take for what is asked of it.
const serverPatience = 5 * time.Minute

// kvServer is the server that has a cache folder.
type kvServer struct {
	*client.Client
	holder kvstore.Holder
}

// serverOf returns the server that has the folder, nil if nobody has it. Whoever
// has it without an address cannot be asked, and must not be disturbed.
func serverOf(dir string, access *config.Access) (*kvServer, error) {
	h, used, err := kvstore.WhoHas(vfs.OS, dir)
	if err != nil || !used {
		return nil, err
	}
	if h.URL == "" {
		return nil, fmt.Errorf("%s is in use by %v, which has no address to ask (a server that is starting, `ds4 run`, `ds4 chat`, or an older version): try again when it has ended", dir, h)
	}
	u, err := url.Parse(h.URL)
	if err == nil {
		_, err = netip.ParseAddrPort(u.Host)
	}
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("%s is in use by %v; its lock file names an address that is none: %.80q", dir, h, h.URL)
	}
	c, err := client.New(h.URL)
	if err != nil {
		return nil, err
	}
	keys, err := access.Keys()
	if err != nil {
		return nil, badInput(err)
	}
	if len(keys) > 0 {
		c = c.WithKey(keys[0])
	}
	return &kvServer{c, h}, nil
}

// ask calls f with a time limit and explains a server that does not answer.
func (s *kvServer) ask(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	err := f(ctx)
	var answer *client.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.Message != "":
		return fmt.Errorf("%s (%v): %s", s.holder.URL, s.holder, answer.Message)
	}
	return fmt.Errorf("the folder is in use by %v, and its server does not answer: %w", s.holder, err)
}
