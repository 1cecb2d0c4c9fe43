package corrupt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// PlantKinds lists what can be planted.
func PlantKinds() []string { return []string{"file", "directory", "fifo", "symlink"} }

// maxPlantBytes bounds a planted file.
const maxPlantBytes = 1 << 30

// Plant makes a file below a cache directory that no server wrote. The content
// of a file is the beginning of a published one, selected as by Pick, or letters;
// a link leads nowhere. Missing folders are made. A name that exists is an error:
// planting must not damage.
func Plant(dir, name, kind, from string, bytes int64) (err error) {
	path := filepath.Join(dir, name)
	if !filepath.IsLocal(name) || bytes < 0 || bytes > maxPlantBytes {
		return fmt.Errorf("corrupt: plant %q of %d bytes: want a path below the directory, and at most %d bytes", name, bytes, maxPlantBytes)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("corrupt: plant: %w", err)
	}
	switch kind {
	case "", "file":
		err = plantFile(dir, path, from, bytes)
	case "directory":
		err = os.Mkdir(path, 0o700)
	case "fifo":
		err = syscall.Mkfifo(path, 0o600)
	case "symlink":
		err = os.Symlink(filepath.Join(dir, "nowhere"), path)
	default:
		err = fmt.Errorf("%q is not known (known: %v)", kind, PlantKinds())
	}
	if err != nil {
		return fmt.Errorf("corrupt: plant %s: %w", name, err)
	}
	return nil
}

func plantFile(dir, path, from string, bytes int64) (err error) {
	var content io.Reader = letters{}
	if from != "" {
		files, err := Pick(dir, from)
		if err != nil {
			return err
		}
		src, err := os.Open(files[0].Path)
		if err != nil {
			return err
		}
		defer src.Close()
		content = src
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.CopyN(f, content, bytes)
	return err
}

// letters is content that is neither empty nor zero.
type letters struct{}

func (letters) Read(b []byte) (int, error) {
	copy(b, slices.Repeat([]byte("planted "), len(b)/8+1))
	return len(b), nil
}
