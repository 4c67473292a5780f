# Cells: what small objects have in common, whatever their words mean.


cdef class CellCore:
    """A handle over cells of a segment's body, and how this process waits there."""

    cdef Attachment attachment
    cdef uint8_t *body
    cdef shm_patience patience
    cdef int closed_flag

    def __cinit__(self, *args, **kwargs):
        self.closed_flag = 1

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        """Puts the handle over the segment's body from cell number `cell` on."""
        cdef uint64_t begin = <uint64_t>cell * CELL_SIZE
        cdef uint64_t size = self.size(attachment.segment.facts.slot_count)
        if begin + size > attachment.segment.facts.body_size:
            raise CorruptError(f"no cell number {cell} in this segment")
        self.attachment = attachment
        self.body = shm_body(&attachment.segment) + begin
        shm_patience_init(&self.patience, spin)
        self.patience.closed = &self.closed_flag
        self.closed_flag = 0

    def _unbind(self):
        """Ends this process's waits on the handle; True: its hold may go now."""
        if not self.closed_flag:
            self.closed_flag = 1
            self.wake_all()
        return True

    cdef uint64_t size(self, uint32_t slots) noexcept:
        """Bytes from the cell on."""
        return 0

    cdef void wake_all(self) noexcept:
        """Everybody who sleeps here has a look."""

    cdef int enter(self) except -1:
        """Before each use: the handle is open, and this process a participant."""
        cdef Attachment attachment = self.attachment
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        if shm_me(&attachment.segment) == 0:
            attachment.rejoin()
        return 0

    cdef int wait_for_lock(self, shm_lock *lock, shm_wait *wait) except -1:
        """Until it may be worth to try the lock again; False when the time is up."""
        cdef int waited
        with nogil:
            waited = shm_lock_wait(&self.attachment.segment, lock, &NO_SEMAPHORE, &self.patience,
                                   wait)
        try:
            PyErr_CheckSignals()
        except BaseException:  # a wake that came with the signal is another sleeper's
            if load_relaxed32(&lock.word) == 0:
                shm_unpark(&lock.word, 1, &NO_SEMAPHORE)
            raise
        self.enter()
        return waited != SHM_TIMED_OUT

    cdef int wait_for_guard(self, shm_lock *guard, uint64_t deadline) except -1:
        """The same for one that is held for a moment only, unless its holder is stopped."""
        cdef shm_wait wait
        shm_wait_init(&wait, deadline, SHM_RECHECK_SOON)
        return self.wait_for_lock(guard, &wait)

    cdef object describe_dead(self, const shm_lock *lock):
        """(pid, command, since) of the owner from whom the lock was inherited."""
        cdef uint32_t dead = load_relaxed32(&lock.heir_of)
        known = self.attachment.describe(dead)
        return *(known or (None, None)), load_relaxed64(&lock.dead_since)

    cdef object describe_owner(self, shm_lock *lock):
        """(pid, thread, alive, since, command) of who has the lock; None if it is free."""
        cdef Attachment attachment = self.attachment
        cdef uint32_t word = load_acquire32(&lock.word)
        cdef uint64_t holder = load_relaxed64(&lock.holder)
        cdef uint64_t since = load_relaxed64(&lock.since)
        if word == 0:
            return None
        pid, command = attachment.describe(word & SHM_IDENTITY) or (holder >> 32, None)
        thread = holder & 0xFFFFFFFF if holder >> 32 == pid else 0
        alive = bool(shm_alive(&attachment.segment, word & SHM_IDENTITY))
        return pid, thread, alive, since, command

    cdef object count_lock(self, const shm_lock *lock):
        return (load_relaxed64(&lock.acquisitions), load_relaxed64(&lock.contended),
                load_relaxed64(&lock.parks), load_relaxed64(&lock.deaths),
                load_relaxed64(&lock.longest_wait) / 1e9)
