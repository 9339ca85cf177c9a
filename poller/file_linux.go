package poller

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// LockFile takes the exclusive lock of an open file (flock(2)) without waiting: the error is
// ErrLocked if another process holds it. The lock belongs to the open file and ends when that
// is closed, also by the kernel when the process dies.
func LockFile(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}

// UnlockFile releases the lock of an open file. Closing the file does so only when no other process
// has it open: a process that is being started has all files of its parent until it executes its
// program.
func UnlockFile(f *os.File) error {
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_UN)) // it does not wait: no EINTR
}

// FreeBytes returns how much room the file system of path has for this process (statfs(2)):
// without what is reserved for root.
func FreeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	for {
		switch err := unix.Statfs(path, &s); err {
		case nil:
			return int64(s.Bavail) * s.Bsize, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("statfs", err)
		}
	}
}

// FileIdentity returns what tells a file from a copy of it (statx(2)): its device, its inode,
// and when it was born, in nanoseconds, which is 0 where the file system does not know.
func FileIdentity(f *os.File) (device, inode uint64, born int64, err error) {
	var s unix.Statx_t
	for {
		err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &s)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, 0, os.NewSyscallError("statx", err)
	}
	if s.Mask&unix.STATX_BTIME != 0 {
		born = s.Btime.Sec*1e9 + int64(s.Btime.Nsec)
	}
	return unix.Mkdev(s.Dev_major, s.Dev_minor), s.Ino, born, nil
}
