# What the binding uses of the C core; the headers say what it means.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "status.h" nogil:
    enum:
        SHM_OK, SHM_INHERITED, SHM_EMPTY, SHM_FULL, SHM_FULL_ITEMS, SHM_LOCKED, SHM_SHUT_DOWN
        SHM_CLOSED, SHM_TIMED_OUT, SHM_INTERRUPTED, SHM_UNREGISTERED, SHM_NO_SLOT, SHM_GONE
        SHM_OTHER_BOOT, SHM_BUSY, SHM_TOO_LARGE, SHM_NOT_HELD
        SHM_NOT_NOW, SHM_OWNER_DIED, SHM_BROKEN_OFF, SHM_NO_PLACE, SHM_BAD_MAGIC, SHM_BAD_VERSION
        SHM_BAD_ABI, SHM_BAD_CHECKSUM, SHM_BAD_LAYOUT, SHM_FAULT, SHM_CORRUPT, SHM_E_OS


cdef extern from "atomics.h" nogil:
    ctypedef uint32_t shm_atomic32
    ctypedef uint64_t shm_atomic64
    uint32_t load_relaxed32 "load_relaxed"(const shm_atomic32 *)
    uint64_t load_relaxed64 "load_relaxed"(const shm_atomic64 *)
    void store_relaxed32 "store_relaxed"(shm_atomic32 *, uint32_t)
    void store_relaxed64 "store_relaxed"(shm_atomic64 *, uint64_t)
    uint32_t load_acquire32 "load_acquire"(const shm_atomic32 *)


cdef extern from "layout.h" nogil:
    enum:
        SHM_KIND_SEGMENT, SHM_KIND_ARENA, SHM_KIND_LOCK, SHM_KIND_RLOCK, SHM_KIND_SEMAPHORE_LOCK
        SHM_KIND_RING, SHM_KIND_QUEUE, SHM_KIND_JOINABLE_QUEUE, SHM_KIND_SIMPLE_QUEUE
        SHM_KIND_SEMAPHORE, SHM_KIND_BOUNDED_SEMAPHORE, SHM_KIND_EVENT, SHM_KIND_CONDITION
        SHM_KIND_BARRIER, SHM_KIND_RWLOCK, SHM_KIND_INT64, SHM_KIND_UINT64, SHM_KIND_CTYPES
        SHM_KIND_NDARRAY, SHM_LOCK_RAISES, SHM_LOCK_IS_LENT, SHM_WAITERS
        SHM_NO_LOCK, SHM_OWN_LOCK, SHM_SHARED_LOCK, SHM_FOREIGN_LOCK
        SHM_UNLINK_LAST, SHM_IDENTITY, SHM_SLOT_FREE, SHM_SLEEPERS, SHM_LAYOUT_VERSION, SHM_ABI
        SHM_ONE_PRODUCER, SHM_ONE_CONSUMER, SHM_SEMAPHORES, SHM_COUNT_TASKS
        SHM_SEMAPHORE_MAX, SHM_DRAINING, SHM_STOPPED, SHM_GRANULE

    struct shm_header:
        uint8_t magic[8]
        uint32_t layout_version, abi, kind, flags
        uint64_t file_size
        uint32_t slot_count
        uint64_t body_size, data_offset, data_size, payload_size, created
        uint8_t cookie[16]
        uint32_t creator_pid
        char creator_command[64]
        char semaphores[32]
        uint32_t semaphore_count, checksum

    struct shm_slot:
        shm_atomic32 identity
        uint32_t pid
        uint64_t pid_namespace, start_time, joined
        char command[96]

    struct shm_lock:
        shm_atomic32 word
        uint32_t flags
        shm_atomic64 holder
        shm_atomic32 depth
        shm_atomic32 heir_of
        shm_atomic64 since, dead_since
        shm_atomic64 acquisitions, contended, parks, deaths, longest_wait

    struct shm_event:
        shm_atomic32 word

    struct shm_semaphore:
        shm_atomic32 value
        shm_event event

    struct shm_bounded:
        shm_lock guard
        uint32_t bound
        shm_event event

    struct shm_flag:
        shm_event event

    struct shm_condition:
        uint8_t lock_cookie[16]
        uint32_t lock_cell

    struct shm_barrier:
        shm_lock guard
        uint32_t parties

    struct shm_readers:
        pass

    struct shm_rwlock:
        shm_lock writer

    struct shm_number:
        uint64_t value
        shm_event event

    struct shm_description:
        uint32_t kind, lock
        uint64_t size
        uint8_t lock_cookie[16]
        uint32_t lock_cell, text_size

    struct shm_ring_control:
        uint64_t capacity, max_items
        uint32_t flags
        char codec[16]

    uint32_t shm_slot_of(uint32_t identity)


cdef extern from "segment.h" nogil:
    struct shm_segment:
        int fd
        shm_header facts
        shm_slot *slots
        uint8_t *base

    struct shm_spec:
        uint32_t kind, flags, slot_count, semaphore_count
        uint64_t body_size, payload_size
        uint8_t cookie[16]
        char semaphores[32]

    uint64_t shm_file_size(const shm_spec *)
    int shm_format(int fd, const shm_spec *)
    int shm_segment_open(shm_segment *, int fd)
    void shm_segment_close(shm_segment *)
    int shm_check_header(int fd, shm_header *)
    uint8_t *shm_body(const shm_segment *)
    uint8_t *shm_data(const shm_segment *)
    uint32_t shm_me(const shm_segment *)


cdef extern from "participants.h" nogil:
    int shm_lock_door(int fd)
    void shm_unlock_door(int door)
    int shm_adopt(shm_segment *)
    int shm_join(shm_segment *, c_bool linked)
    void shm_leave(shm_segment *, const char *path, c_bool *last)
    c_bool shm_alive(const shm_segment *, uint32_t identity)
    c_bool shm_slot_held(const shm_segment *, uint32_t slot)


cdef extern from "waiting.h" nogil:
    const uint64_t SHM_NEVER
    const uint32_t SHM_SPIN_ADAPTIVE
    const uint64_t SHM_RECHECK_MIN, SHM_RECHECK_SOON

    struct shm_place:
        void *semaphore

    struct shm_patience:
        uint32_t spin
        uint64_t spins, parks, wakes
        int *closed

    struct shm_wait:
        uint64_t deadline
        uint64_t parks

    uint64_t shm_now()
    c_bool shm_unpark(shm_atomic32 *, uint32_t count, const shm_place *)
    int shm_place_open(shm_place *, const char *name)
    void shm_place_close(shm_place *)
    void shm_patience_init(shm_patience *, uint32_t spin)
    void shm_wait_init(shm_wait *, uint64_t deadline, uint64_t interval)


cdef extern from "process.h" nogil:
    uint64_t shm_this_thread()


cdef extern from "lock.h" nogil:
    int shm_lock_recover(const shm_segment *, shm_lock *, uint32_t claim, const shm_place *)
    void shm_lock_sign(shm_lock *)
    void shm_lock_count_wait(shm_lock *, uint64_t begin, uint64_t parks)
    c_bool shm_lock_take(shm_lock *, uint32_t claim)
    int shm_lock_try(const shm_segment *, shm_lock *, uint32_t claim)
    int shm_lock_release(shm_lock *, const shm_place *)
    int shm_lock_wait(const shm_segment *, shm_lock *, const shm_place *, shm_patience *,
                      shm_wait *)
    c_bool shm_lock_spin(shm_lock *, uint32_t claim, uint32_t ns)


cdef extern from "semaphores.h" nogil:
    int shm_semaphore_try(shm_semaphore *)
    int shm_semaphore_release(shm_semaphore *)
    void shm_semaphore_pass_on(shm_semaphore *)
    int shm_semaphore_wait(shm_semaphore *, shm_patience *, shm_wait *)
    c_bool shm_semaphore_spin(const shm_semaphore *, uint32_t ns)
    uint64_t shm_bounded_size(uint32_t slot_count)
    uint32_t shm_bounded_value(const shm_segment *, shm_bounded *)
    int shm_bounded_try(const shm_segment *, shm_bounded *)
    int shm_bounded_release(const shm_segment *, shm_bounded *)
    void shm_bounded_pass_on(const shm_segment *, shm_bounded *)
    int shm_bounded_wait(const shm_segment *, shm_bounded *, shm_patience *, shm_wait *)


cdef extern from "flag.h" nogil:
    enum:
        SHM_FLAG_SET
    uint32_t shm_flag_load(const shm_flag *)
    void shm_flag_set(shm_flag *)
    void shm_flag_clear(shm_flag *)
    c_bool shm_flag_was_set(const shm_flag *, uint32_t seen)
    c_bool shm_flag_spin(const shm_flag *, uint32_t seen, uint32_t ns)
    int shm_flag_wait(shm_flag *, uint32_t seen, shm_patience *, shm_wait *)


cdef extern from "condition.h" nogil:
    int shm_condition_enter(const shm_segment *, shm_condition *, uint32_t *place)
    void shm_condition_notify(const shm_segment *, shm_condition *, uint32_t count)
    c_bool shm_condition_is_notified(const shm_condition *, uint32_t place)
    int shm_condition_wait(const shm_segment *, shm_condition *, uint32_t *place, shm_patience *,
                           shm_wait *)
    c_bool shm_condition_spin(const shm_condition *, uint32_t place, uint32_t ns)
    c_bool shm_condition_leave(shm_condition *, uint32_t place)
    void shm_condition_give_up(const shm_segment *, shm_condition *, uint32_t place)
    uint32_t shm_condition_waiting(const shm_segment *, const shm_condition *)
    void shm_condition_wake_all(shm_condition *)


cdef extern from "barrier.h" nogil:
    uint64_t shm_barrier_size(uint32_t slot_count)
    int shm_barrier_arrive(const shm_segment *, shm_barrier *, c_bool acts, uint32_t *index)
    int shm_barrier_finish(shm_barrier *)
    int shm_barrier_look(const shm_barrier *)
    int shm_barrier_wait(const shm_segment *, shm_barrier *, c_bool arrived, shm_patience *,
                         shm_wait *)
    c_bool shm_barrier_spin(const shm_barrier *, uint32_t ns)
    void shm_barrier_leave(const shm_segment *, shm_barrier *)
    void shm_barrier_abort(shm_barrier *)
    void shm_barrier_reset(const shm_segment *, shm_barrier *)
    void shm_barrier_time_out(shm_barrier *)
    c_bool shm_barrier_is_broken(const shm_segment *, shm_barrier *)
    uint32_t shm_barrier_waiting(const shm_segment *, shm_barrier *)
    void shm_barrier_wake_all(shm_barrier *)


cdef extern from "rwlock.h" nogil:
    struct shm_queued:
        shm_readers *mine
    uint64_t shm_rwlock_size(uint32_t slot_count)
    int shm_rwlock_try_read(const shm_segment *, shm_rwlock *)
    void shm_rwlock_queue(const shm_segment *, shm_rwlock *, shm_queued *)
    int shm_rwlock_wait_read(const shm_segment *, shm_queued *, shm_patience *, shm_wait *)
    c_bool shm_rwlock_unqueue(shm_queued *)
    int shm_rwlock_release_read(const shm_segment *, shm_rwlock *)
    int shm_rwlock_try_write(const shm_segment *, shm_rwlock *, uint32_t claim)
    int shm_rwlock_recover(const shm_segment *, shm_rwlock *)
    c_bool shm_rwlock_is_alone(const shm_segment *, shm_rwlock *)
    int shm_rwlock_wait_alone(const shm_segment *, shm_rwlock *, shm_patience *, shm_wait *)
    void shm_rwlock_begin_write(shm_rwlock *)
    int shm_rwlock_release_write(const shm_segment *, shm_rwlock *)
    uint32_t shm_rwlock_readers(const shm_segment *, shm_rwlock *)
    void shm_rwlock_wake_all(shm_rwlock *)


cdef extern from "number.h" nogil:
    uint64_t shm_number_load(const shm_number *)
    void shm_number_store(shm_number *, uint64_t)
    uint64_t shm_number_exchange(shm_number *, uint64_t)
    c_bool shm_number_compare_exchange(shm_number *, uint64_t expected, uint64_t desired)
    c_bool shm_number_add(shm_number *, int64_t amount, c_bool is_signed, uint64_t *after)
    int shm_number_wait(shm_number *, uint64_t seen, shm_patience *, shm_wait *)
    c_bool shm_number_spin(const shm_number *, uint64_t seen, uint32_t ns)


cdef extern from "ring.h" nogil:
    enum:
        SHM_SHORT, SHM_LONG, SHM_RING_PLACES

    struct shm_ring_spec:
        uint64_t capacity, max_items
        uint32_t flags
        char codec[16]

    struct shm_ring:
        shm_ring_control *control
        uint64_t max_items
        uint32_t flags
        int closed
        shm_place places[5]
        shm_patience producing, consuming

    struct shm_message:
        const void *bytes
        uint64_t length
        uint8_t tag
        c_bool waited

    struct shm_loan:
        uint8_t *bytes
        uint32_t length
        uint8_t tag

    uint64_t shm_ring_body_size(uint32_t slot_count)
    void shm_ring_format(shm_segment *, const shm_ring_spec *)
    int shm_ring_open(shm_ring *, shm_segment *, uint32_t spin)
    uint64_t shm_ring_capacity(const shm_ring *)
    uint64_t shm_ring_max_message(const shm_ring *)
    c_bool shm_ring_is_long(const shm_ring *, uint64_t length)
    int shm_ring_put(shm_ring *, const shm_message *, uint32_t count, uint32_t *done, c_bool retry)
    int shm_ring_reserve(shm_ring *, const shm_message *, shm_loan *, c_bool retry)
    int shm_ring_commit(shm_ring *, const shm_loan *)
    int shm_ring_await(shm_ring *, c_bool retry)
    void shm_ring_unwait(shm_ring *, uint32_t count)
    int shm_ring_take(shm_ring *, shm_loan *, uint32_t most, uint32_t *count,
                      uint8_t *scratch, c_bool retry)
    void shm_ring_finish(shm_ring *, const shm_loan *, uint32_t count)
    void shm_ring_give_back(shm_ring *, const shm_loan *, uint32_t count)
    int shm_ring_task_done(shm_ring *)
    int64_t shm_ring_unfinished(const shm_ring *)
    uint64_t shm_ring_depth(const shm_ring *)
    void shm_ring_counts(const shm_ring *, uint64_t *put, uint64_t *taken, uint64_t *bytes_used)
    int shm_ring_shut_down(shm_ring *, int how, c_bool retry)
    void shm_ring_release_sides(shm_ring *, c_bool producer, c_bool consumer)
    void shm_ring_close(shm_ring *)
    int shm_ring_wait_messages(shm_ring *, shm_wait *)
    int shm_ring_wait_space(shm_ring *, uint64_t length, c_bool waited, shm_wait *)
    void shm_ring_pass_on_space(shm_ring *)
    int shm_ring_wait_side(shm_ring *, c_bool producers, shm_wait *)
    int shm_ring_wait_idle(shm_ring *, shm_wait *)
    c_bool shm_ring_spin_messages(shm_ring *, uint32_t ns)
    c_bool shm_ring_spin_space(shm_ring *, uint64_t length, uint32_t ns)


cdef extern from "mapping.h" nogil:
    int shm_secret_file()


cdef extern from "faults.h" nogil:
    struct shm_watch
    int shm_guard_faults()
    void shm_unguard_faults()
    c_bool shm_faults_are_guarded()


cdef extern from "region.h" nogil:
    struct shm_region_spec:
        int fd
        uint64_t offset
        size_t length, reserve, page
        int protection, flags
        void *address
        c_bool stable, file_reads

    struct shm_region:
        uint8_t *base
        shm_region_spec spec
        shm_watch *watch
        c_bool mixed

    struct shm_pages:
        uint8_t *start
        size_t length

    struct shm_search:
        size_t offset, length
        const void *what
        size_t size
        c_bool last

    size_t shm_page_size()
    int shm_region_map(shm_region *, const shm_region_spec *)
    int shm_region_borrow(shm_region *, uint8_t *, const shm_region_spec *)
    int shm_region_resize(shm_region *, size_t)
    int shm_region_remap(shm_region *, size_t)
    int shm_region_empty(shm_region *)
    int shm_region_unmap(shm_region *)
    shm_pages shm_region_pages(const shm_region *, size_t, size_t, c_bool)
    int shm_region_protect(shm_region *, shm_pages, int)
    int shm_region_read(const shm_region *, void *, size_t, size_t, size_t *)
    int shm_region_write(const shm_region *, size_t, const void *, size_t, size_t *)
    int shm_region_find(const shm_region *, const shm_search *, size_t *)
    c_bool shm_region_is_direct(const shm_region *)
    c_bool shm_region_has_fault(const shm_region *, uint64_t *)
    uint64_t shm_active_regions()
    uint64_t shm_active_bytes()


cdef extern from "advice.h" nogil:
    struct shm_advice:
        const char *name
        int number
    const shm_advice shm_advices[1]
