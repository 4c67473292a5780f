# Locks: a cell in a segment, and how this process waits for it.


cdef class LockCore:
    """A lock that any thread or process may release, as multiprocessing.Lock."""

    cdef Attachment attachment
    cdef shm_lock *lock
    cdef shm_place place
    cdef shm_patience patience
    cdef int closed_flag

    def __cinit__(self, *args, **kwargs):
        self.closed_flag = 1

    def __dealloc__(self):
        shm_place_close(&self.place)

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        """Puts the handle over cell number `cell` of the segment's body."""
        if (<uint64_t>cell + 1) * sizeof(shm_lock) > attachment.segment.facts.body_size:
            raise CorruptError(f"no lock number {cell} in this segment")
        names = attachment.semaphores
        if names and shm_place_open(&self.place, names[0].encode()) != SHM_OK:
            raise_status(SHM_E_OS)
        self.attachment = attachment
        self.lock = <shm_lock *>shm_body(&attachment.segment) + cell
        shm_patience_init(&self.patience, spin)
        self.patience.closed = &self.closed_flag
        self.closed_flag = 0

    def _unbind(self):
        """Ends this process's waits on the handle; True: its hold may go now."""
        self.closed_flag = 1
        shm_unpark(&self.lock.word, INT_MAX, &self.place)
        return True

    def _is_held(self):
        """Whether the word is not free; also after closing."""
        return self.lock == NULL or load_relaxed32(&self.lock.word) != 0

    cdef int try_acquire(self, c_bool slept) except -1:
        """SHM_OK, SHM_INHERITED or SHM_LOCKED."""
        cdef int status
        cdef uint32_t me
        cdef Attachment attachment = self.attachment
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        me = shm_me(&attachment.segment)
        if me == 0:
            attachment.rejoin()
            me = shm_me(&attachment.segment)
        status = shm_lock_try(&attachment.segment, self.lock, me | (SHM_SLEEPERS if slept else 0))
        if status != SHM_LOCKED:
            self.mark_owner()
        return status

    cdef void mark_owner(self) noexcept:
        """What stands beside the word of a lock just taken, before any other thread runs."""

    cdef void give_up(self) noexcept:
        shm_lock_release(self.lock, &self.place)

    cdef int acquire_slowly(self, double seconds) except -1:
        """As try_acquire, after waiting."""
        cdef shm_wait wait
        cdef int status, waited
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        if self.patience.spin and shm_lock_spin(self.lock, SPIN_WITH_GIL):
            status = self.try_acquire(False)
            if status != SHM_LOCKED:
                return status
        while True:
            with nogil:
                waited = shm_lock_wait(&self.attachment.segment, self.lock, &self.place,
                                       &self.patience, &wait)
            PyErr_CheckSignals()
            status = self.try_acquire(True)
            if status != SHM_LOCKED or waited == SHM_TIMED_OUT:
                return status

    cdef int settle(self, int status) except -1:
        """True if the lock is ours.  A warning that is an error does not leave it held."""
        if status == SHM_INHERITED:
            try:
                self._inherited(self.attachment.describe(load_relaxed32(&self.lock.heir_of)))
            except BaseException:
                self.give_up()
                raise
        return status != SHM_LOCKED

    def acquire(self, bint block=True, timeout=None):
        cdef double seconds = seconds_of(timeout)
        cdef int status = self.try_acquire(False)
        if status == SHM_OK:
            return True
        if status == SHM_LOCKED and block:
            status = self.acquire_slowly(seconds)
        return bool(self.settle(status))

    def release(self):
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        if shm_lock_release(self.lock, &self.place) != SHM_OK:
            raise ValueError("semaphore or lock released too many times")

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *args):
        self.release()

    def locked(self):
        """Whether a living participant holds it now."""
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        return bool(shm_alive(&self.attachment.segment,
                              load_relaxed32(&self.lock.word) & SHM_IDENTITY))


cdef class RLockCore(LockCore):
    """A lock that its owning thread may take again."""

    cdef bint is_mine(self):
        cdef uint32_t me = shm_me(&self.attachment.segment)
        return (me != 0 and load_relaxed32(&self.lock.word) & SHM_IDENTITY == me
                and load_relaxed64(&self.lock.thread) == <uint64_t>PyThread_get_thread_ident())

    cdef void mark_owner(self) noexcept:
        store_relaxed64(&self.lock.thread, <uint64_t>PyThread_get_thread_ident())
        store_relaxed32(&self.lock.depth, 1)

    cdef void give_up(self) noexcept:
        store_relaxed64(&self.lock.thread, 0)
        shm_lock_release(self.lock, &self.place)

    def acquire(self, bint block=True, timeout=None):
        cdef double seconds = seconds_of(timeout)
        cdef int status
        if not self.closed_flag and self.is_mine():
            store_relaxed32(&self.lock.depth, load_relaxed32(&self.lock.depth) + 1)
            return True
        status = self.try_acquire(False)
        if status == SHM_LOCKED and block:
            status = self.acquire_slowly(seconds)
        return bool(self.settle(status))

    def release(self):
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        if not self.is_mine():
            raise AssertionError("attempt to release recursive lock not owned by thread")
        cdef uint32_t depth = load_relaxed32(&self.lock.depth) - 1
        store_relaxed32(&self.lock.depth, depth)
        if depth == 0:
            self.give_up()
