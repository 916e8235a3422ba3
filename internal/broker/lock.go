package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"discountquery.example/worker/internal/fault"
)

// lockName is the file that a running server holds in its store.
const lockName = "worker.lock"

// lockStore makes the store's directory and takes its lock, so that no two servers write to one store. The lock belongs to the
// open file: it is free again when the process ends, however it ends.
func lockStore(dir string) (*os.File, error) {
	const op = "start embedded server"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, problem(op, fault.BrokerRefused, err, "can't make the directory %s for the store: set data_dir to one we may write to", dir)
	}
	path := filepath.Join(dir, lockName)
	file, err := openLocked(path)
	switch {
	case errors.Is(err, ErrStoreInUse):
		return nil, problem(op, fault.BrokerRefused, err,
			"the store %s is in use by another worker%s: stop it, or set data_dir to another directory", dir, holderOf(path))
	case err != nil:
		return nil, problem(op, fault.BrokerRefused, err, "can't lock the store %s: set data_dir to a directory we may write to", dir)
	}
	// The number only serves the error above: the lock holds without it.
	if err := file.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(file, "%d\n", os.Getpid())
	}
	return file, nil
}

func holderOf(path string) string {
	content, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(content))
	if err != nil || pid == "" || strings.Trim(pid, "0123456789") != "" {
		return ""
	}
	return " (process " + pid + ")"
}
