package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// lockTimeout is how long to wait for another process's turn. A turn takes
	// milliseconds; one of seconds means that something hangs.
	lockTimeout = 10 * time.Second
	fileMode    = 0o600
	folderMode  = 0o700
)

// view runs f on the file as it is. A file that does not exist holds nothing, and
// reading does not make it: f is not run.
func (j *Journal) view(ctx context.Context, f func(*bbolt.Tx) error) error {
	if _, err := os.Stat(j.path); errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	return j.with(ctx, true, func(db *bbolt.DB) error { return db.View(f) })
}

// update runs f in a transaction that is on disk when update returns nil, and never
// happened when it returns an error of f.
func (j *Journal) update(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := j.create(); err != nil {
		return err
	}
	// Reading needs less of the file than writing. What is wrong with it is told by a
	// look that cannot touch it.
	if err := j.with(ctx, true, func(*bbolt.DB) error { return nil }); err != nil {
		return err
	}
	return j.with(ctx, false, func(db *bbolt.DB) error { return db.Update(f) })
}

// with opens the file, waits for its lock, makes sure that it is a journal, and closes
// it when do has done. Whatever is wrong with the file becomes one error that names it.
func (j *Journal) with(ctx context.Context, readOnly bool, do func(*bbolt.DB) error) (err error) {
	wait, err := patience(ctx)
	if err != nil {
		return err
	}
	// bbolt maps the file and trusts it. What a damaged one makes of that, a panic or a
	// fault, must not end a run that has other things to finish.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	defer func() {
		if broken := recover(); broken != nil {
			err = j.unusable(fmt.Sprintf("is damaged (%v)", broken))
		}
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	var file *os.File
	db, err = bbolt.Open(j.path, fileMode, &bbolt.Options{
		ReadOnly: readOnly,
		Timeout:  wait,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = openFilled(path, flag, mode)
			return file, err
		},
	})
	if err != nil {
		return j.opening(err)
	}
	if err := db.View(func(tx *bbolt.Tx) error { return j.recognise(tx, file) }); err != nil {
		return err
	}
	return do(db)
}

// patience is how long to wait for the lock: not past the context's deadline.
func patience(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	wait := lockTimeout
	if deadline, ok := ctx.Deadline(); ok {
		// bbolt takes 0 for "for ever".
		wait = max(min(wait, time.Until(deadline)), time.Millisecond)
	}
	return wait, nil
}

var errEmpty = errors.New("empty")

// openFilled opens a file, and keeps bbolt from making a database of one that is not
// there any more or that somebody emptied.
func openFilled(path string, flag int, mode os.FileMode) (*os.File, error) {
	file, err := os.OpenFile(path, flag&^os.O_CREATE, mode)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() == 0 {
		err = errEmpty
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// recognise tells a journal from another program's database, and from one whose end
// is missing: what was lost there must not be taken for never written.
func (j *Journal) recognise(tx *bbolt.Tx, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return j.unusable(fmt.Sprintf("is cut off: %d of at least %d bytes are there", info.Size(), tx.Size()))
	}
	if tx.Bucket([]byte(bucketCurrent)) == nil || tx.Bucket([]byte(bucketHistory)) == nil {
		return j.unusable("is the database of another program")
	}
	return nil
}

// opening says why the file cannot be opened.
func (j *Journal) opening(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("the journal file %s is in use by another process, which did not let go of it in time: see who it is (fuser, lsof), or try again", j.path)
	case errors.Is(err, errEmpty):
		return j.unusable("is empty")
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return j.unusable("is no journal: " + err.Error())
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("opening the journal file: %w", err) // names the path
	}
	return j.unusable("cannot be opened: " + err.Error())
}

// unusable is the error about a file that was there and has been left as it was.
func (j *Journal) unusable(why string) error {
	return fmt.Errorf("the journal file %s %s; it was left as it is: move it away (rotations in flight then need a person), or set JOURNAL to another one", j.path, why)
}

// create makes the file unless there is one: whole under another name, then linked to
// its own, which fails if somebody was faster. A crash leaves a stray ….new file.
func (j *Journal) create() error {
	if _, err := os.Lstat(j.path); !errors.Is(err, fs.ErrNotExist) {
		return nil // opening it tells what it is
	}
	folder := filepath.Dir(j.path)
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return fmt.Errorf("making the folder of the journal file: %w", err)
	}
	draft, err := os.CreateTemp(folder, filepath.Base(j.path)+".*.new") // mode 0600
	if err != nil {
		return fmt.Errorf("making the journal file: %w", err)
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	if err := errors.Join(draft.Close(), fill(draft.Name())); err != nil {
		return fmt.Errorf("making the journal file: %w", err)
	}
	if err := os.Link(draft.Name(), j.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the journal file: %w", err)
	}
	if err := syncFolder(folder); err != nil {
		return fmt.Errorf("making the journal file: %w", err)
	}
	return nil
}

// syncFolder makes the name of a new file survive a power cut, as its content does.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // has no such call
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// fill makes an empty journal of an empty file.
func fill(path string) error {
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err1 := tx.CreateBucket([]byte(bucketCurrent))
		_, err2 := tx.CreateBucket([]byte(bucketHistory))
		return errors.Join(err1, err2)
	})
	return errors.Join(err, db.Close())
}
