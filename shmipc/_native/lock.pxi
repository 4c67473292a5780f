# Locks: one cell, and how this process waits for it.


cdef class LockCore(CellCore):
    """A lock that any thread or process may release, as multiprocessing.Lock."""

    cdef shm_lock *lock
    cdef shm_place place

    def __dealloc__(self):
        shm_place_close(&self.place)

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        names = attachment.semaphores
        if names and shm_place_open(&self.place, names[0].encode()) != SHM_OK:
            raise_status(SHM_E_OS)
        CellCore._bind(self, attachment, cell, spin)
        self.lock = <shm_lock *>self.body

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return sizeof(shm_lock)

    cdef void wake_all(self) noexcept:
        shm_unpark(&self.lock.word, INT_MAX, &self.place)

    def _is_idle(self):
        """Whether nobody has it; also after closing."""
        return self.lock != NULL and load_relaxed32(&self.lock.word) == 0

    # --- acquiring --------------------------------------------------------------------------

    @cython.final
    cdef uint32_t claimant(self) except 0:
        """Who I am, in the lock's word."""
        cdef uint32_t me
        cdef Attachment attachment = self.attachment
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        me = shm_me(&attachment.segment)
        if me == 0:
            attachment.rejoin()
            me = shm_me(&attachment.segment)
        return me

    @cython.final
    cdef int try_acquire(self, c_bool slept) except -1:
        """SHM_OK, SHM_INHERITED, SHM_LOCKED or SHM_OWNER_DIED."""
        cdef uint32_t claim = self.claimant() | (SHM_SLEEPERS if slept else 0)
        cdef int status = shm_lock_try(&self.attachment.segment, self.lock, claim)
        if status <= SHM_INHERITED:
            self.sign()
        return status

    cdef void sign(self) noexcept:
        """What stands beside the word of a lock just taken, before any other thread runs."""
        shm_lock_sign(self.lock)

    cdef void give_up(self) noexcept:
        store_relaxed64(&self.lock.holder, 0)
        shm_lock_release(self.lock, &self.place)

    cdef int acquire_slowly(self, double seconds) except -1:
        """As try_acquire, after waiting.  Who was woken claims with the bit, because others may sleep
        still; who only spun need not."""
        cdef shm_wait wait
        cdef uint64_t begin = shm_now()
        cdef int status, waited
        cdef uint32_t claim
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        while True:
            if self.patience.spin:
                claim = self.claimant() | (SHM_SLEEPERS if wait.parks else 0)
                if shm_lock_spin(self.lock, claim, SPIN_WITH_GIL):
                    self.sign()
                    return self.settle_late(SHM_OK, begin, wait.parks)
            with nogil:
                waited = shm_lock_wait(&self.attachment.segment, self.lock, &self.place,
                                       &self.patience, &wait)
            self.check_signals()
            status = self.try_acquire(wait.parks > 0)
            if status != SHM_LOCKED or waited == SHM_TIMED_OUT:
                return self.settle_late(status, begin, wait.parks)

    cdef int settle_late(self, int status, uint64_t begin, uint64_t parks) noexcept:
        if status <= SHM_INHERITED:
            shm_lock_count_wait(self.lock, begin, parks)
        return status

    cdef int check_signals(self) except -1:
        """A wake that came with the signal that ends this wait is another sleeper's."""
        try:
            PyErr_CheckSignals()
        except BaseException:
            if load_relaxed32(&self.lock.word) == 0:
                shm_unpark(&self.lock.word, 1, &self.place)
            raise
        return 0

    cdef int settle(self, int status) except -1:
        """True if the lock is ours.  A warning that is an error does not leave it held."""
        if status == SHM_OWNER_DIED:
            self._refused(self.describe_owner(self.lock))
        if status == SHM_INHERITED:
            try:
                self._inherited(self.describe_dead(self.lock))
            except BaseException:
                self.give_up()
                raise
        return status != SHM_LOCKED

    cdef bint take(self, bint block, double seconds) except -1:
        if shm_lock_take(self.lock, self.claimant()):
            self.sign()
            return True
        return self.settle(self.acquire_slowly(seconds) if block else self.try_acquire(False))

    cdef int give(self) except -1:
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        store_relaxed64(&self.lock.holder, 0)
        if shm_lock_release(self.lock, &self.place) != SHM_OK:
            raise ValueError("semaphore or lock released too many times")
        return 0

    def acquire(self, bint block=True, timeout=None):
        return self.take(block, seconds_of(timeout))

    def release(self):
        self.give()

    # Not by way of acquire and release, which would be looked up; and with three parameters, which
    # come without a tuple.
    def __enter__(self):
        return self.take(True, INFINITY)

    def __exit__(self, kind=None, error=None, traceback=None):
        self.give()

    # --- looking ----------------------------------------------------------------------------

    def locked(self):
        """Whether a living participant holds it now."""
        cdef uint32_t word
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        word = load_relaxed32(&self.lock.word)
        return bool(word and (self.lock.flags & SHM_LOCK_IS_LENT
                              or shm_alive(&self.attachment.segment, word & SHM_IDENTITY)))

    cdef bint is_mine(self):
        """Whether this thread has it."""
        cdef uint32_t me = shm_me(&self.attachment.segment)
        return (me != 0 and load_relaxed32(&self.lock.word) & SHM_IDENTITY == me
                and load_relaxed64(&self.lock.holder) == shm_this_thread())

    def _is_mine(self):
        self.enter()
        return self.is_mine()

    def _is_ours(self):
        """Whether a thread of this process has it."""
        self.enter()
        return (load_relaxed32(&self.lock.word) & SHM_IDENTITY
                == shm_me(&self.attachment.segment))

    @property
    def _depth(self):
        self.enter()
        return load_relaxed32(&self.lock.depth)

    def _owner(self):
        self.enter()
        return self.describe_owner(self.lock)

    def _counts(self):
        self.enter()
        return self.count_lock(self.lock)

    def _recover(self, bint acquire):
        """Whether there was a dead owner to recover it from."""
        self.enter()
        cdef uint32_t claim = shm_me(&self.attachment.segment) if acquire else 0
        cdef int status = shm_lock_recover(&self.attachment.segment, self.lock, claim, &self.place)
        if status == SHM_OK and acquire:
            self.sign()
        return status == SHM_OK

    # --- for a condition that goes with it --------------------------------------------------

    cdef uint32_t let_go(self) noexcept:
        """Releases it whole; how deep it was held."""
        self.give_up()
        return 1

    cdef int take_back(self, uint32_t depth, bint is_second) except -1:
        """Acquires it as deep.  The first exception of a signal handler waits until it is ours
        again, so that `with condition` can leave; a second one does not."""
        cdef object interrupted = None
        cdef int status
        while True:
            status = self.try_acquire(False)
            if status == SHM_LOCKED:
                try:
                    status = self.acquire_slowly(INFINITY)
                except ClosedError:
                    raise
                except BaseException as error:
                    if is_second or interrupted is not None:
                        raise
                    interrupted = error
                    continue
            break
        self.settle(status)
        self.deepen(depth)
        if interrupted is not None:
            raise interrupted
        return 0

    cdef void deepen(self, uint32_t depth) noexcept:
        pass


cdef class RLockCore(LockCore):
    """A lock that its owning thread may take again."""

    cdef void sign(self) noexcept:
        shm_lock_sign(self.lock)
        store_relaxed32(&self.lock.depth, 1)

    cdef bint take(self, bint block, double seconds) except -1:
        if not self.closed_flag and self.is_mine():
            store_relaxed32(&self.lock.depth, load_relaxed32(&self.lock.depth) + 1)
            return True
        return LockCore.take(self, block, seconds)

    cdef int give(self) except -1:
        if self.closed_flag:
            raise_status(SHM_CLOSED)
        if not self.is_mine():
            raise AssertionError("attempt to release recursive lock not owned by thread")
        cdef uint32_t depth = load_relaxed32(&self.lock.depth) - 1
        store_relaxed32(&self.lock.depth, depth)
        if depth == 0:
            self.give_up()
        return 0

    cdef uint32_t let_go(self) noexcept:
        cdef uint32_t depth = load_relaxed32(&self.lock.depth)
        self.give_up()
        return depth

    cdef void deepen(self, uint32_t depth) noexcept:
        store_relaxed32(&self.lock.depth, depth)


def set_lock_flags(Attachment attachment not None, uint32_t cell, uint32_t flags):
    """What a death means for the lock in that cell; before anybody else can see it."""
    (<shm_lock *>shm_body(&attachment.segment) + cell).flags = flags


def lock_flags(Attachment attachment not None, uint32_t cell):
    return (<shm_lock *>shm_body(&attachment.segment) + cell).flags
