package config

import (
	"fmt"
	"time"
)

// Defaults and limits of the cache settings.
const (
	defaultSpaceMB       = 4096
	defaultMinTokens     = 512
	defaultSegmentTokens = 2048
	segmentMultiple      = 128 // of the widest compression window
	maxSegmentTokens     = 1 << 17
	defaultQuarantineMB  = 512
	defaultRecover       = 30 * time.Second
	maxRecover           = time.Hour
)

// KV describes the disk cache.
type KV struct {
	Dir            string // empty: no disk cache
	SpaceMB        int
	MinTokens      int
	SegmentTokens  int
	Validate       string // off, header, full
	QuarantineMB   int
	Sync           string // none, data
	RecoverTimeout time.Duration
}

// AddKV registers the settings of KV.
func (s *Set) AddKV(k *KV) {
	s.Path(&k.Dir, "kv-disk-dir", "", "keep the KV cache in `DIR`; without it nothing is kept on disk")
	s.Int(&k.SpaceMB, "kv-disk-space-mb", "", defaultSpaceMB, 1, maxSpaceMB, "everything under the directory together, at most `N` MiB")
	s.Int(&k.MinTokens, "kv-cache-min-tokens", "", defaultMinTokens, 1, maxContext, "neither save nor restore fewer than `N` tokens")
	Var(s, &k.SegmentTokens, "kv-segment-tokens", "", defaultSegmentTokens, parseSegmentTokens,
		func(n int) string { return fmt.Sprint(n) }, fmt.Sprintf("`N` tokens per segment file, a multiple of %d", segmentMultiple))
	s.Enum(&k.Validate, "kv-validate", "", "header", []string{"off", "header", "full"}, "how much of each file is read at start, `MODE`: off, header, full")
	s.Int(&k.QuarantineMB, "kv-quarantine-mb", "", defaultQuarantineMB, 0, maxSpaceMB, "keep at most `N` MiB of refused files for inspection; 0 deletes them")
	s.Enum(&k.Sync, "kv-sync", "", "data", []string{"none", "data"}, "`MODE`: data survives a power cut, none does not wait for the disk")
	s.Duration(&k.RecoverTimeout, "kv-recover-timeout", "", defaultRecover, time.Millisecond, maxRecover, "validation at start takes at most `DUR`; the rest is done on use")
}

func parseSegmentTokens(text string) (int, error) {
	n, err := parseInt(text, segmentMultiple, maxSegmentTokens)
	if err == nil && n%segmentMultiple != 0 {
		err = fmt.Errorf("%d is not a multiple of %d", n, segmentMultiple)
	}
	return int(n), err
}
