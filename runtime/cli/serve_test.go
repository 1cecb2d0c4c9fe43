package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"ds4/runtime/kvstore/replay"
)

// A switch stands alone in the usage text.
func TestUsageOfSwitches(t *testing.T) {
	var out bytes.Buffer
	Main([]string{"serve", "--help"}, Streams{In: strings.NewReader(""), Out: &out, Err: &out})
	if text := out.String(); !strings.Contains(text, "--no-ui ") || strings.Contains(text, "[=true]") {
		t.Errorf("usage text:\n%s", text)
	}
}

func TestReplayCanBeSwitchedOff(t *testing.T) {
	m := replay.Open(replay.Options{})
	t.Cleanup(func() { m.Close(context.Background()) })
	var s serveSettings
	if got := s.callMemory(m); got != m {
		t.Errorf("by default calls are remembered with %v", got)
	}
	s.server.NoToolReplay = true
	if got := s.callMemory(m); got != nil {
		t.Errorf("switched off, calls are remembered with %v", got)
	}
}

// TestCallsBytes: how many tool calls are remembered follows the budget of the cache.
func TestCallsBytes(t *testing.T) {
	for mb, want := range map[int]int64{16: 1, 256: 16, 1024: 64, 4096: 64, 8192: 128, 32 << 10: 512, 1 << 20: 512} {
		if got := callsBytes(mb); got != want<<20 {
			t.Errorf("a cache of %d MiB: %d, want %d MiB", mb, got, want)
		}
	}
}
