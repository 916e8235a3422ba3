package base

import (
	"fmt"
	"os"
	"path/filepath"
)

// Write writes files into a folder, which it makes. It overwrites nothing: a file that is there already is an error.
func Write(dir string, files []File) error {
	if err := os.MkdirAll(dir, DirMode); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	for _, file := range files {
		name := filepath.Join(dir, filepath.FromSlash(file.Path))
		var err error
		if file.Mode.IsDir() {
			err = os.Mkdir(name, file.Mode.Perm())
		} else {
			err = create(name, file)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
		// The umask may have taken away what the image needs.
		if err := os.Chmod(name, file.Mode.Perm()); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}

func create(name string, file File) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.Mode.Perm())
	if err != nil {
		return err
	}
	if _, err := out.Write(file.Body); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
