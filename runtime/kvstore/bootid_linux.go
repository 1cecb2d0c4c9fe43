package kvstore

import (
	"os"
	"strings"
)

// bootID returns an id that changes with every boot of the machine, or "".
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
