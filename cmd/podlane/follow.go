package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The hold-off between the last of a burst of changes and the signal: editors truncate before they write, and a ConfigMap
// volume changes in several steps. Under churn without a pause the signal comes after followMost.
const (
	followQuiet = 50 * time.Millisecond
	followMost  = 500 * time.Millisecond
)

// follower tells when something under a folder has changed: in place, by rename, by a symbolic link that was swapped,
// or in a folder that is new.
type follower struct {
	root    string // absolute, links not resolved
	watch   *watch // of the goroutine that settles, until it ends
	raw     chan struct{}
	changed chan time.Time
	done    chan struct{}
	settled sync.WaitGroup
	reading sync.WaitGroup
	// onError is told of what went wrong while following; it may be called at any time until close returns.
	onError func(error)
}

// follow watches root from now on: a change that happens after follow returned is never missed. The error is one that a
// user can understand.
func follow(root string, onError func(error)) (*follower, error) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", root, err)
	}
	f := &follower{
		root: absolute, raw: make(chan struct{}, 1), changed: make(chan time.Time, 1), done: make(chan struct{}), onError: onError,
	}
	if f.watch, err = newWatch(absolute); err != nil {
		return nil, err
	}
	first := f.watch
	f.reading.Go(func() { f.read(first) })
	f.settled.Go(func() { settle(f.done, f.raw, f.tell) })
	return f, nil
}

// changes receives a value after each burst of changes: when the burst began.
func (f *follower) changes() <-chan time.Time { return f.changed }

// close ends the following and waits for its goroutines.
func (f *follower) close() error {
	close(f.done)
	f.settled.Wait()
	err := f.watch.Close()
	f.reading.Wait()
	return err
}

// tell is called at the end of a burst. It watches anew before it tells: the system follows a folder that was renamed
// under its old name, and knows nothing of new ones. What happened between the last event and the new watch is seen by
// whoever reads the folder after tell, what happens later by the new watch.
func (f *follower) tell(since time.Time) {
	next, err := newWatch(f.root)
	if err != nil {
		f.onError(err)
	} else {
		f.reading.Go(func() { f.read(next) })
		if err := f.watch.Close(); err != nil {
			f.onError(err)
		}
		f.watch = next
	}
	select {
	case f.changed <- since:
	default: // an earlier one is waiting already, and says the same
	}
}

// read turns the system's events of one watch into pokes, until it is closed.
func (f *follower) read(w *watch) {
	for {
		select {
		case event, ok := <-w.Events:
			if !ok {
				return
			}
			if event.Name != f.root && !w.concerns(event.Name) {
				continue
			}
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				f.onError(fmt.Errorf("watch %s: %w", f.root, explainWatch(err)))
			}
			// Events may be lost: look at everything.
		}
		select {
		case f.raw <- struct{}{}:
		default:
		}
	}
}

// watch is a set of folders that the system watches. folders are those of which every entry counts, files single ones
// elsewhere that symbolic links lead to; both hold real paths, and are not changed once newWatch has returned. Other
// entries of a watched folder are nobody's business: the folder may be /tmp.
type watch struct {
	*fsnotify.Watcher
	folders, files map[string]bool
}

// newWatch watches root, everything below it, and where symbolic links in it lead. A root that is missing is no error: it may
// come, and the one who reads it says that it is missing.
func newWatch(root string) (*watch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, explainWatch(err))
	}
	w := &watch{watcher, map[string]bool{}, map[string]bool{}}
	// The folder of root is watched because root may be swapped, or go and come back.
	err = w.folder(filepath.Dir(root))
	if err == nil {
		err = w.tree(root)
	}
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return w, nil
}

// concerns reports whether an event of that name counts.
func (w *watch) concerns(name string) bool {
	return w.folders[name] || w.folders[filepath.Dir(name)] || w.files[name]
}

// tree watches one folder and what is in it.
func (w *watch) tree(path string) error {
	folder, err := filepath.EvalSymlinks(path)
	if err != nil || w.folders[folder] {
		return nil //nolint:nilerr // it is gone, which is a change of its own; or links form a circle
	}
	w.folders[folder] = true
	// The watch comes before the look, so that nothing can appear between the two unseen.
	if err := w.folder(folder); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", folder, explainRead(err))
	}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), "."):
			// Not manifests: .git, and the ..data of ConfigMap volumes, to which links lead from the folder itself.
		case entry.IsDir():
			err = w.tree(path)
		case entry.Type()&fs.ModeSymlink != 0:
			err = w.link(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// link watches what a symbolic link leads to. A link that leads nowhere is watched by the folder that it is in.
func (w *watch) link(path string) error {
	end, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	info, err := os.Stat(end)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	if info.IsDir() {
		return w.tree(end)
	}
	w.files[end] = true
	return w.folder(filepath.Dir(end))
}

// folder watches one folder; one that is gone is none of its business.
func (w *watch) folder(path string) error {
	err := w.Add(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("watch %s: %w", path, explainWatch(err))
}

// explainRead leaves out the path, which *fs.PathError says again.
func explainRead(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// explainWatch says what to do about the limits of inotify, whose errors speak of disks and files.
func explainWatch(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return errors.New("the system allows no more watches: raise fs.inotify.max_user_watches (sysctl)")
	case errors.Is(err, syscall.EMFILE):
		return errors.New("the system allows no more watchers: raise fs.inotify.max_user_instances (sysctl)")
	}
	return err
}

// settle calls tell, with the time of the first poke, once pokes have paused for followQuiet, or lasted for followMost, until
// done is closed.
func settle(done, from <-chan struct{}, tell func(since time.Time)) {
	for {
		select {
		case <-done:
			return
		case <-from:
		}
		since := time.Now()
		if !awaitQuiet(done, from) {
			return
		}
		tell(since)
	}
}

// awaitQuiet returns when pokes have paused or lasted long enough, and false when done was closed.
func awaitQuiet(done, from <-chan struct{}) bool {
	most := time.NewTimer(followMost)
	defer most.Stop()
	quiet := time.NewTimer(followQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-done:
			return false
		case <-from:
			quiet.Reset(followQuiet)
		case <-quiet.C:
			return true
		case <-most.C:
			return true
		}
	}
}
