//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// openLocked makes the file anew, or returns ErrStoreInUse. A file that a process has open can't be removed on Windows, so one
// that can be removed was left by a process that is gone.
func openLocked(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, ErrStoreInUse
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return file, nil
}
