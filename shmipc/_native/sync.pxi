# What processes wait for beside locks.  Each method tries under Python's own lock, waits without it,
# and tries again.


cdef class SemaphoreCore(CellCore):
    """Units that are nobody's."""

    cdef shm_semaphore *semaphore

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.semaphore = <shm_semaphore *>self.body

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return sizeof(shm_semaphore)

    cdef void wake_all(self) noexcept:
        shm_unpark(&self.semaphore.event.word, INT_MAX, &NO_SEMAPHORE)

    def _is_idle(self):
        return True

    cdef int try_acquire(self, double seconds) except -1:
        """SHM_OK or SHM_NOT_NOW.  Where a guard has to be passed, it waits for that so long."""
        return shm_semaphore_try(self.semaphore)

    cdef int wait_for_units(self, shm_wait *wait) noexcept nogil:
        return shm_semaphore_wait(self.semaphore, &self.patience, wait)

    cdef bint spin_for_units(self) noexcept:
        return shm_semaphore_spin(self.semaphore, SPIN_WITH_GIL)

    cdef void pass_on(self) noexcept:
        shm_semaphore_pass_on(self.semaphore)

    def acquire(self, bint block=True, timeout=None):
        cdef double seconds = seconds_of(timeout)
        self.enter()
        if self.try_acquire(max(seconds, A_MOMENT) if block else A_MOMENT) == SHM_OK:
            return True
        return bool(self.acquire_slowly(seconds)) if block else False

    cdef bint acquire_slowly(self, double seconds) except -1:
        cdef shm_wait wait
        cdef int waited
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        if (self.patience.spin and self.spin_for_units()
                and self.try_acquire(seconds) == SHM_OK):
            return True
        while True:
            with nogil:
                waited = self.wait_for_units(&wait)
            try:
                PyErr_CheckSignals()
                self.enter()
            except BaseException:  # a unit that we were woken for is another's now
                self.pass_on()
                raise
            if self.try_acquire(max(seconds_until(wait.deadline), A_MOMENT)) == SHM_OK:
                return True
            if waited == SHM_TIMED_OUT:
                return False

    cdef int give_back(self) except -1:
        return shm_semaphore_release(self.semaphore)

    def release(self):
        self.enter()
        if self.give_back() != SHM_OK:
            raise ValueError("semaphore or lock released too many times")

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *args):
        self.release()

    def get_value(self):
        self.enter()
        return load_acquire32(&self.semaphore.value)


cdef class BoundedSemaphoreCore(SemaphoreCore):
    """Units of which it is known who has them."""

    cdef shm_bounded *bounded

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.bounded = <shm_bounded *>self.body

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return shm_bounded_size(slots)

    cdef void wake_all(self) noexcept:
        shm_unpark(&self.bounded.event.word, INT_MAX, &NO_SEMAPHORE)

    def _is_idle(self):
        return shm_bounded_value(&self.attachment.segment, self.bounded) == self.bounded.bound

    cdef int try_acquire(self, double seconds) except -1:
        cdef int status
        cdef uint64_t deadline = 0
        while True:
            status = shm_bounded_try(&self.attachment.segment, self.bounded)
            if status != SHM_LOCKED:
                return status
            deadline = deadline or deadline_after(seconds)
            if not self.wait_for_guard(&self.bounded.guard, deadline):
                return SHM_NOT_NOW

    cdef int wait_for_units(self, shm_wait *wait) noexcept nogil:
        return shm_bounded_wait(&self.attachment.segment, self.bounded, &self.patience, wait)

    cdef bint spin_for_units(self) noexcept:
        return False

    cdef void pass_on(self) noexcept:
        shm_bounded_pass_on(&self.attachment.segment, self.bounded)

    cdef int give_back(self) except -1:
        return shm_bounded_release(&self.attachment.segment, self.bounded)

    def get_value(self):
        self.enter()
        return shm_bounded_value(&self.attachment.segment, self.bounded)

    @property
    def _bound(self):
        return self.bounded.bound


cdef class EventCore(CellCore):
    """A flag that is set and cleared."""

    cdef shm_flag *flag

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.flag = <shm_flag *>self.body

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return sizeof(shm_flag)

    cdef void wake_all(self) noexcept:
        shm_unpark(&self.flag.event.word, INT_MAX, &NO_SEMAPHORE)

    def _is_idle(self):
        return True

    def is_set(self):
        self.enter()
        return bool(shm_flag_load(self.flag) & SHM_FLAG_SET)

    def set(self):
        self.enter()
        shm_flag_set(self.flag)

    def clear(self):
        self.enter()
        shm_flag_clear(self.flag)

    def wait(self, timeout=None):
        cdef double seconds = seconds_of(timeout)
        cdef uint32_t seen
        cdef shm_wait wait
        cdef int waited
        self.enter()
        seen = shm_flag_load(self.flag)
        if seen & SHM_FLAG_SET:
            return True
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        if self.patience.spin and shm_flag_spin(self.flag, seen, SPIN_WITH_GIL):
            return True
        while True:
            with nogil:
                waited = shm_flag_wait(self.flag, seen, &self.patience, &wait)
            PyErr_CheckSignals()
            self.enter()
            if shm_flag_was_set(self.flag, seen):
                return True
            if waited == SHM_TIMED_OUT:
                return False


cdef class ConditionCore(CellCore):
    """Threads that wait, each in a place of its own, and the lock that goes with it."""

    cdef shm_condition *condition
    cdef LockCore lock

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.condition = <shm_condition *>self.body

    def _bind_lock(self, LockCore lock not None):
        self.lock = lock

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return sizeof(shm_condition)

    cdef void wake_all(self) noexcept:
        shm_condition_wake_all(self.condition)

    def _is_idle(self):
        return shm_condition_waiting(&self.attachment.segment, self.condition) == 0

    cdef int sleep(self, uint32_t *place, double seconds) except -1:
        """Until the one in this place is notified, or the time is up."""
        cdef shm_wait wait
        cdef int waited
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        if self.patience.spin and shm_condition_spin(self.condition, place[0], SPIN_WITH_GIL):
            return 0
        while not shm_condition_is_notified(self.condition, place[0]):
            with nogil:
                waited = shm_condition_wait(&self.attachment.segment, self.condition, place,
                                            &self.patience, &wait)
            PyErr_CheckSignals()
            self.enter()
            if waited == SHM_TIMED_OUT:
                break
        return 0

    def wait(self, timeout=None):
        cdef double seconds = seconds_of(timeout)
        cdef uint32_t place = 0, depth
        self.enter()
        self.lock.enter()
        if not self.lock.is_mine():
            raise AssertionError("must acquire() condition before using wait()")
        if shm_condition_enter(&self.attachment.segment, self.condition, &place) != SHM_OK:
            raise BusyError(f"all {SHM_WAITERS} places of a condition are taken by threads that "
                            "wait and live")
        depth = self.lock.let_go()
        try:
            try:
                self.sleep(&place, seconds)
            except BaseException:
                self.lock.take_back(depth, True)
                raise
            self.lock.take_back(depth, False)
        except BaseException:
            shm_condition_give_up(&self.attachment.segment, self.condition, place)
            raise
        return bool(shm_condition_leave(self.condition, place))

    def notify(self, n=1):
        cdef long long count = PyNumber_Index(n)
        self.enter()
        self.lock.enter()
        if not self.lock.is_mine():
            raise AssertionError("lock is not owned")
        if count > 0:
            shm_condition_notify(&self.attachment.segment, self.condition,
                                 <uint32_t>min(count, INT_MAX))

    def notify_all(self):
        self.notify(INT_MAX)

    def _waiting(self):
        self.enter()
        return shm_condition_waiting(&self.attachment.segment, self.condition)


def set_condition_lock(Attachment attachment not None, uint32_t cell, bytes cookie not None,
                       uint32_t lock_cell):
    """Which lock the condition in that cell goes with; before anybody else can see it."""
    cdef shm_condition *condition = <shm_condition *>(
        shm_body(&attachment.segment) + <uint64_t>cell * CELL_SIZE)
    memcpy(condition.lock_cookie, PyBytes_AS_STRING(cookie), 16)
    condition.lock_cell = lock_cell


def condition_lock(Attachment attachment not None, uint32_t cell):
    """(cookie, cell) of the lock that the condition in that cell was made with; None: its own."""
    cdef shm_condition *condition = <shm_condition *>(
        shm_body(&attachment.segment) + <uint64_t>cell * CELL_SIZE)
    cdef const char *cookie = <const char *>condition.lock_cookie
    found = cookie[:16]
    return None if found == bytes(16) else (found, condition.lock_cell)


cdef class BarrierCore(CellCore):
    """So many parties that meet."""

    cdef shm_barrier *barrier
    cdef object action
    cdef double default_seconds

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.barrier = <shm_barrier *>self.body

    def _bind_action(self, action, timeout):
        self.action = action
        self.default_seconds = seconds_of(timeout)

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return shm_barrier_size(slots)

    cdef void wake_all(self) noexcept:
        shm_barrier_wake_all(self.barrier)

    def _is_idle(self):
        return shm_barrier_waiting(&self.attachment.segment, self.barrier) == 0

    cdef int sleep(self, bint arrived, shm_wait *wait) except -1:
        cdef int waited
        with nogil:
            waited = shm_barrier_wait(&self.attachment.segment, self.barrier, arrived,
                                      &self.patience, wait)
        PyErr_CheckSignals()
        self.enter()
        return waited

    cdef uint32_t arrive(self, shm_wait *wait) except? 0:
        """As which number."""
        cdef uint32_t index = 0
        cdef int status
        cdef bint in_time
        while True:
            status = shm_barrier_arrive(&self.attachment.segment, self.barrier,
                                        self.action is not None, &index)
            if status == SHM_OK:
                return index
            if status == SHM_BROKEN_OFF:
                raise BrokenBarrierError("the barrier is broken")
            if status == SHM_LOCKED:
                in_time = self.wait_for_guard(&self.barrier.guard, wait.deadline)
            else:
                in_time = self.sleep(False, wait) != SHM_TIMED_OUT
            if not in_time:
                raise BrokenBarrierError("the last round has not ended in time")

    cdef int act(self) except -1:
        try:
            self.action()
        except BaseException:
            shm_barrier_abort(self.barrier)
            raise
        if shm_barrier_finish(self.barrier) != SHM_OK:
            raise BrokenBarrierError("the barrier was broken during the action")
        return 0

    cdef int meet(self, shm_wait *wait) except -1:
        cdef int status
        if self.patience.spin:
            shm_barrier_spin(self.barrier, SPIN_WITH_GIL)
        while True:
            status = shm_barrier_look(self.barrier)
            if status == SHM_OK:
                return 0
            if status == SHM_BROKEN_OFF:
                raise BrokenBarrierError("the barrier is broken, or was reset")
            if self.sleep(True, wait) == SHM_TIMED_OUT:
                shm_barrier_time_out(self.barrier)
                wait.deadline = SHM_NEVER  # all are there: the action is running

    def wait(self, timeout=None):
        cdef double seconds = self.default_seconds if timeout is None else seconds_of(timeout)
        cdef shm_wait wait
        cdef uint32_t index
        self.enter()
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        index = self.arrive(&wait)
        try:
            if (self.action is not None and index + 1 == self.barrier.parties
                    and shm_barrier_look(self.barrier) == SHM_NOT_NOW):
                self.act()
            else:
                self.meet(&wait)
        finally:
            shm_barrier_leave(&self.attachment.segment, self.barrier)
        return index

    def reset(self):
        self.enter()
        shm_barrier_reset(&self.attachment.segment, self.barrier)

    def abort(self):
        self.enter()
        shm_barrier_abort(self.barrier)

    @property
    def parties(self):
        self.enter()
        return self.barrier.parties

    @property
    def n_waiting(self):
        self.enter()
        return shm_barrier_waiting(&self.attachment.segment, self.barrier)

    @property
    def broken(self):
        self.enter()
        return bool(shm_barrier_is_broken(&self.attachment.segment, self.barrier))


cdef class RWLockCore(CellCore):
    """One writer or many readers."""

    cdef shm_rwlock *rwlock

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.rwlock = <shm_rwlock *>self.body

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return shm_rwlock_size(slots)

    cdef void wake_all(self) noexcept:
        shm_rwlock_wake_all(self.rwlock)

    def _is_idle(self):
        return (load_relaxed32(&self.rwlock.writer.word) == 0
                and shm_rwlock_readers(&self.attachment.segment, self.rwlock) == 0)

    cdef int settle(self, int status, bint writing) except -1:
        """True if it is ours.  A warning that is an error does not leave it held."""
        if status == SHM_NO_PLACE:
            raise BusyError("this process has it for reading as often as it can be counted")
        if status == SHM_OWNER_DIED:
            self._refused(self.describe_owner(&self.rwlock.writer))
        if status == SHM_INHERITED:
            try:
                self._inherited(self.describe_dead(&self.rwlock.writer))
            except BaseException:
                if writing:
                    shm_rwlock_release_write(&self.attachment.segment, self.rwlock)
                else:
                    shm_rwlock_release_read(&self.attachment.segment, self.rwlock)
                raise
        return status <= SHM_INHERITED

    # --- reading ----------------------------------------------------------------------------

    cdef int read_slowly(self, double seconds) except -1:
        cdef shm_wait wait
        cdef shm_queued queued
        cdef int waited, status
        cdef bint let_in
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        while True:
            shm_rwlock_queue(&self.attachment.segment, self.rwlock, &queued)
            with nogil:
                waited = shm_rwlock_wait_read(&self.attachment.segment, &queued, &self.patience,
                                              &wait)
            let_in = shm_rwlock_unqueue(&queued)
            try:
                PyErr_CheckSignals()
                self.enter()
            except BaseException:
                if let_in:
                    shm_rwlock_release_read(&self.attachment.segment, self.rwlock)
                raise
            if let_in:
                return SHM_OK
            status = shm_rwlock_try_read(&self.attachment.segment, self.rwlock)
            if status != SHM_NOT_NOW or waited == SHM_TIMED_OUT:
                return status

    def acquire_read_lock(self, bint block=True, timeout=None):
        cdef double seconds = seconds_of(timeout)
        cdef int status
        self.enter()
        status = shm_rwlock_try_read(&self.attachment.segment, self.rwlock)
        if status == SHM_NOT_NOW and block:
            status = self.read_slowly(seconds)
        return bool(self.settle(status, False))

    def release_read_lock(self):
        self.enter()
        if shm_rwlock_release_read(&self.attachment.segment, self.rwlock) != SHM_OK:
            raise ValueError("this process does not hold the lock for reading")

    # --- writing ----------------------------------------------------------------------------

    cdef int take_writer(self, bint block, shm_wait *wait) except -1:
        """The writers' lock: SHM_OK, SHM_INHERITED, SHM_OWNER_DIED or SHM_LOCKED."""
        cdef uint32_t me = shm_me(&self.attachment.segment), sleepers = 0
        cdef uint64_t begin = 0
        cdef int status
        cdef bint in_time = block
        while True:
            status = shm_rwlock_try_write(&self.attachment.segment, self.rwlock, me | sleepers)
            if status != SHM_LOCKED or not in_time:
                break
            if not begin:
                begin = shm_now()
            in_time = self.wait_for_lock(&self.rwlock.writer, wait)
            sleepers = SHM_SLEEPERS
        if status <= SHM_INHERITED:
            shm_lock_sign(&self.rwlock.writer)
            if begin:
                shm_lock_count_wait(&self.rwlock.writer, begin, wait.parks)
        return status

    cdef bint get_alone(self, bint block, shm_wait *wait) except -1:
        """With the writers' lock in hand, until the readers have gone."""
        cdef int waited = SHM_OK
        while not shm_rwlock_is_alone(&self.attachment.segment, self.rwlock):
            if not block or waited == SHM_TIMED_OUT:
                return False
            with nogil:
                waited = shm_rwlock_wait_alone(&self.attachment.segment, self.rwlock,
                                               &self.patience, wait)
            PyErr_CheckSignals()
            self.enter()
        return True

    def acquire_write_lock(self, bint block=True, timeout=None):
        cdef double seconds = seconds_of(timeout)
        cdef shm_wait wait
        self.enter()
        shm_wait_init(&wait, deadline_after(seconds) if block else SHM_NEVER, SHM_RECHECK_MIN)
        if not self.settle(self.take_writer(block, &wait), True):
            return False
        try:
            if self.get_alone(block, &wait):
                shm_rwlock_begin_write(self.rwlock)
                return True
        except BaseException:
            shm_rwlock_release_write(&self.attachment.segment, self.rwlock)
            raise
        shm_rwlock_release_write(&self.attachment.segment, self.rwlock)
        return False

    def release_write_lock(self):
        self.enter()
        if shm_rwlock_release_write(&self.attachment.segment, self.rwlock) != SHM_OK:
            raise ValueError("this process does not hold the lock for writing")

    # --- looking ----------------------------------------------------------------------------

    def _readers(self):
        self.enter()
        return shm_rwlock_readers(&self.attachment.segment, self.rwlock)

    def _owner(self):
        self.enter()
        return self.describe_owner(&self.rwlock.writer)

    def _counts(self):
        self.enter()
        return self.count_lock(&self.rwlock.writer)

    def _recover(self, bint acquire):
        """Whether there was a dead writer to recover it from, who had begun to write."""
        cdef shm_wait wait
        self.enter()
        if shm_rwlock_recover(&self.attachment.segment, self.rwlock) != SHM_OK:
            return False
        if not acquire:
            shm_rwlock_release_write(&self.attachment.segment, self.rwlock)
            return True
        shm_lock_sign(&self.rwlock.writer)
        shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN)
        try:
            self.get_alone(True, &wait)  # the dead one may have let readers in on his way out
        except BaseException:
            shm_rwlock_release_write(&self.attachment.segment, self.rwlock)
            raise
        return True


cdef class NumberCore(CellCore):
    """A signed number of 64 bits."""

    cdef shm_number *number

    def _bind(self, Attachment attachment not None, uint32_t cell, uint32_t spin):
        CellCore._bind(self, attachment, cell, spin)
        self.number = <shm_number *>self.body

    cdef uint64_t size(self, uint32_t slots) noexcept:
        return sizeof(shm_number)

    cdef void wake_all(self) noexcept:
        shm_unpark(&self.number.event.word, INT_MAX, &NO_SEMAPHORE)

    def _is_idle(self):
        return True

    cdef uint64_t bits_of(self, object value) except? 0:
        cdef int64_t number = PyNumber_Index(value)  # OverflowError if it does not fit
        return <uint64_t>number

    cdef object number_of(self, uint64_t bits):
        return <int64_t>bits

    cdef uint64_t add_to(self, object amount) except? 0:
        cdef int64_t more = PyNumber_Index(amount)
        return self.add_short(more, True)

    cdef uint64_t add_short(self, int64_t more, bint is_signed) except? 0:
        cdef uint64_t after = 0
        if not shm_number_add(self.number, more, is_signed, &after):
            raise OverflowError(f"{self.load()} and {more} do not fit into 64 bits")
        return after

    def load(self):
        self.enter()
        return self.number_of(shm_number_load(self.number))

    def store(self, value):
        cdef uint64_t bits = self.bits_of(value)
        self.enter()
        shm_number_store(self.number, bits)

    def exchange(self, value):
        cdef uint64_t bits = self.bits_of(value)
        self.enter()
        return self.number_of(shm_number_exchange(self.number, bits))

    def compare_exchange(self, expected, desired):
        cdef uint64_t before = self.bits_of(expected), after = self.bits_of(desired)
        self.enter()
        return bool(shm_number_compare_exchange(self.number, before, after))

    def add(self, amount=1):
        self.enter()
        return self.number_of(self.add_to(amount))

    def wait(self, seen, timeout=None):
        cdef uint64_t bits = self.bits_of(seen), found
        cdef double seconds = seconds_of(timeout)
        cdef shm_wait wait
        cdef int waited = SHM_OK
        self.enter()
        found = shm_number_load(self.number)
        if found != bits:
            return self.number_of(found)
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_MIN)
        if self.patience.spin:
            shm_number_spin(self.number, bits, SPIN_WITH_GIL)
        while True:
            found = shm_number_load(self.number)
            if found != bits or waited == SHM_TIMED_OUT:
                return self.number_of(found)
            with nogil:
                waited = shm_number_wait(self.number, bits, &self.patience, &wait)
            PyErr_CheckSignals()
            self.enter()


cdef class UnsignedCore(NumberCore):
    """An unsigned number of 64 bits."""

    cdef uint64_t bits_of(self, object value) except? 0:
        return PyNumber_Index(value)

    cdef object number_of(self, uint64_t bits):
        return bits

    cdef uint64_t add_to(self, object amount) except? 0:
        """An amount may have 65 bits: a sign beside as many as the number has."""
        cdef object more = PyNumber_Index(amount)
        if -(1 << 63) <= more < 1 << 63:
            return self.add_short(more, False)
        cdef uint64_t before, after
        while True:
            before = shm_number_load(self.number)
            after = before + more  # OverflowError if it does not fit
            if shm_number_compare_exchange(self.number, before, after):
                return after


def format_cell(Attachment attachment not None, uint32_t cell, int kind, value):
    """A semaphore's units, a bound, a number of parties, or a number's first value; before anybody
    else can see it."""
    cdef uint8_t *body = shm_body(&attachment.segment) + <uint64_t>cell * CELL_SIZE
    value = PyNumber_Index(value)
    if kind == SHM_KIND_SEMAPHORE:
        (<shm_semaphore *>body).value = value
    elif kind == SHM_KIND_BOUNDED_SEMAPHORE:
        (<shm_bounded *>body).bound = value
    elif kind == SHM_KIND_BARRIER:
        (<shm_barrier *>body).parties = value
    elif kind == SHM_KIND_INT64:
        (<shm_number *>body).value = <uint64_t><int64_t>value
    elif kind == SHM_KIND_UINT64:
        (<shm_number *>body).value = value
    else:
        raise SystemError(f"nothing is to be written into a {kind_name(kind)}")


def first_word(Attachment attachment not None, int kind):
    """The same of the object that a segment's body begins with, as it is now."""
    cdef uint8_t *body = shm_body(&attachment.segment)
    if kind == SHM_KIND_SEMAPHORE:
        return (<shm_semaphore *>body).value
    if kind == SHM_KIND_BOUNDED_SEMAPHORE:
        return (<shm_bounded *>body).bound
    if kind == SHM_KIND_BARRIER:
        return (<shm_barrier *>body).parties
    if kind == SHM_KIND_INT64:
        return <int64_t>(<shm_number *>body).value
    return (<shm_number *>body).value


def sizes_of_cells(uint32_t slots):
    """Bytes that an object of each kind takes in the body."""
    return {
        SHM_KIND_LOCK: sizeof(shm_lock),
        SHM_KIND_RLOCK: sizeof(shm_lock),
        SHM_KIND_SEMAPHORE_LOCK: sizeof(shm_lock),
        SHM_KIND_SEMAPHORE: sizeof(shm_semaphore),
        SHM_KIND_BOUNDED_SEMAPHORE: shm_bounded_size(slots),
        SHM_KIND_EVENT: sizeof(shm_flag),
        SHM_KIND_CONDITION: sizeof(shm_lock) + sizeof(shm_condition),
        SHM_KIND_BARRIER: shm_barrier_size(slots),
        SHM_KIND_RWLOCK: shm_rwlock_size(slots),
        SHM_KIND_INT64: sizeof(shm_number),
        SHM_KIND_UINT64: sizeof(shm_number),
    }
