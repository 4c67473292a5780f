/* The lock of shmipc/_native/lock.h, which outlives its owner.
 *
 * Whoever changes lock.h, lock.c, shm_alive() or how a slot is taken (participants.c), or the loops
 * that acquire (lock.pxi, ring.pxi) changes this model with them.  The steps:
 *
 *   J1 J2     joining: take_slot(), write_slot()
 *   S1        shm_lock_take(): compare_exchange from 0, by one who will wait if it fails
 *   T1        shm_lock_try(): the same, by one who will ask whether the owner lives
 *   T2 to T5  shm_lock_try_held(): load, shm_alive() in two steps, compare_exchange
 *   W1 to W4  shm_lock_wait(): announce_sleeper(), shm_alive() in two steps, shm_park()
 *   R1 R2     shm_lock_release(): exchange, shm_unpark()
 *
 * Each process takes the lock in each of its ROUNDS, by polling (one try) or waiting, and releases
 * what it took.  Up to DEATHS times somebody is killed, before any of his steps; a new process may
 * then use the slot again.  A waiter that an exception takes out of its wait (Ctrl-C, close) is to
 * the others as one that died.
 *
 * Shown:
 *   - no two that live have the lock (took);
 *   - who dies with it has one heir, who is told so; nobody else takes what he left (took);
 *   - a try fails only if the owner looked alive at some moment of it (excused);
 *   - nobody who waits sleeps for ever: that is a state without a next one, which the search
 *     reports.  The timed re-check helps a sleeper only if the owner is dead or a death left a wake
 *     undone (`owed`); so a release is shown to wake without it.  It may also come at a bad time:
 *     RECHECKS sleeps end by themselves at any moment, DEADLINES end in a last try.
 *
 * A loop around a compare-and-swap is one step: its tries that fail leave nothing behind. */

#ifndef PROCESSES /* at most 3 */
#define PROCESSES 3
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef RECHECKS
#define RECHECKS 1
#endif
#ifndef DEADLINES
#define DEADLINES 1
#endif

#define SLEEPERS 128 /* SHM_SLEEPERS */
#define IDENTITY 127 /* SHM_IDENTITY: slot + 4 * generation */
#define SLOTS 4
#define slot_of(name) (name % SLOTS)
#define owner_of(word) (word & IDENTITY)

byte word;        /* shm_lock.word */
byte identity[3]; /* shm_slot.identity; one process for each slot at a time */
bool held[3];     /* the kernel's lock on the slot's byte */
bool asleep[3];   /* in the kernel's queue on the word */

byte deaths = DEATHS, rechecks = RECHECKS, deadlines = DEADLINES;
bool gone[3];     /* dead or done */
bool has[3];      /* lives and has the lock */
bool orphan;      /* who had it last died with it, and nobody has inherited it */
bool owes[3];     /* its death now would leave somebody without a wake that he was due */
bool owed;        /* ... and has */
bool excused[3];  /* the owner has looked alive since its try began */

#define somebody_has (has[0] || has[1] || has[2])
#define owner_looks_alive                                                                          \
    (word != 0 && held[slot_of(word)] && identity[slot_of(word)] == owner_of(word))

inline excuse_everybody()
{
    excused[0] = true;
    excused[1] = true;
    excused[2] = true
}

inline forget() /* what the model need not tell apart any more */
{
    claim = 0;
    seen = 0;
    polls = false;
    last = false;
    excused[me] = false
}

inline took(inherited)
{
    assert(!somebody_has);
    assert(inherited == orphan);
    orphan = false;
    has[me] = true;
    owes[me] = false; /* with the bit in the word, the next release pays */
    excuse_everybody();
    forget()
}

/* The kernel's part: futex_wait compares and queues in one step, futex_wake chooses whom it
 * wakes.  The woken owes: he was woken in the others' stead. */
inline futex_wait()
{
    asleep[me] = (word == seen)
}

inline wake(who)
{
    asleep[who] = false;
    owes[who] = true
}

inline futex_wake()
{
    if
    :: asleep[0] -> wake(0)
    :: asleep[1] -> wake(1)
    :: asleep[2] -> wake(2)
    :: else
    fi
}

/* shm_alive(), in the two steps between which a slot may change hands. */
#ifdef MUTATION_READS_THE_SLOT_FIRST /* T2: load_relaxed, and the slot loaded ahead of it */
#define slot_names(name) (early[slot_of(name)] == owner_of(name))
#elif defined(MUTATION_ASKS_ONLY_THE_KERNEL) /* shm_alive: no look at the slot's identity */
#define slot_names(name) true
#else
#define slot_names(name) (identity[slot_of(name)] == owner_of(name))
#endif
#define kernel_says_alive(name) (owner_of(name) == identity[me] || held[slot_of(name)])

proctype process(byte me)
{
    byte claim, seen, round;
    bool polls, last; /* one try and no more; the last one, after the deadline */
#ifdef MUTATION_READS_THE_SLOT_FIRST
    byte early[3];
#endif

life:
    {
        skip; /* Promela does not let a block begin with a label */
J1:     atomic {
            held[me] = true;
            if
            :: owner_looks_alive -> excuse_everybody() /* a newcomer in the dead owner's slot */
            :: else
            fi
        };
J2:
#ifdef MUTATION_NO_GENERATION /* next_identity(): the slot alone */
        identity[me] = SLOTS + me;
#else
        identity[me] = (identity[me] == 0 -> SLOTS + me : identity[me] + SLOTS);
#endif

acquire:
        atomic {
            claim = identity[me];
            excused[me] = owner_looks_alive;
            if
            :: polls = true
            :: polls = false; goto spin
            fi
        };
try:
#ifdef MUTATION_READS_THE_SLOT_FIRST
        atomic {
            early[0] = identity[0];
            early[1] = identity[1];
            early[2] = identity[2]
        };
#endif
T1:     atomic {
            if
            :: word == 0 -> word = claim; took(false); goto inside
            :: else
            fi
        };
T2:     atomic {
            seen = word;
            if
            :: seen == 0 -> goto T1
            :: else
            fi
        };
#ifdef MUTATION_FAILS_UNASKED /* shm_lock_try_held: SHM_LOCKED, whoever has it */
        goto failed;
#endif
T3:     if
        :: !slot_names(seen) -> goto T5
        :: slot_names(seen)
        fi;
T4:     if
        :: kernel_says_alive(seen) -> goto failed
        :: !kernel_says_alive(seen)
        fi;
T5:     atomic {
#ifdef MUTATION_TAKES_OVER_BY_A_STORE /* T5: store instead of the second compare_exchange */
            if
            :: true
#else
            if
            :: word == seen
#endif
                ->
#ifdef MUTATION_DROPS_THE_DEADS_SLEEPERS /* T5: inherited = claim */
                word = claim;
#else
                word = claim | (seen & SLEEPERS);
#endif
                took(true);
                goto inside
            :: else ->
#ifdef MUTATION_TAKES_ANY_CHANGE_FOR_AN_HEIR /* T5: SHM_LOCKED instead of another turn */
                goto failed
#else
                goto T2
#endif
            fi
        };

failed: atomic {
            assert(excused[me]);
            if
            :: polls || last -> goto next
            :: else
            fi
        };
spin:
S1:     atomic {
            if
            :: word == 0 -> word = claim; took(false); goto inside
            :: else
            fi
        };
W1:     atomic {
            if
            :: word == 0 -> goto slept
            :: else -> word = word | SLEEPERS; seen = word; owes[me] = false
            fi
        };
W2:     if
        :: !slot_names(seen) -> goto slept
        :: slot_names(seen)
        fi;
W3:     if
        :: !kernel_says_alive(seen) -> goto slept
        :: kernel_says_alive(seen)
        fi;
W4:     atomic {
            futex_wait();
            seen = 0;
#ifndef MUTATION_CLAIMS_WITHOUT_THE_BIT /* acquire_slowly(): try_acquire(False) */
            claim = identity[me] | SLEEPERS
#endif
        };
        if
        :: !asleep[me] /* woken, or the word had changed */
        :: atomic { asleep[me] && rechecks > 0 -> rechecks--; asleep[me] = false }
        :: atomic { asleep[me] && deadlines > 0 -> deadlines--; asleep[me] = false; last = true }
#ifndef MUTATION_SLEEPS_WITHOUT_LIMIT /* shm_park() without its interval */
        :: atomic { asleep[me] && (orphan || owed) -> asleep[me] = false }
#endif
        fi;
slept:  atomic {
            seen = 0;
            excused[me] = owner_looks_alive;
            goto try
        };

inside:
#ifdef MUTATION_WAKES_BEFORE_THE_RELEASE /* shm_lock_release: shm_unpark before the exchange */
        if
        :: atomic { word & SLEEPERS -> futex_wake() }
        :: !(word & SLEEPERS)
        fi;
        atomic { word = 0; has[me] = false };
#elif defined(MUTATION_RELEASES_BY_A_STORE) /* shm_lock_release: load and store, no exchange */
        seen = word;
        atomic { word = 0; has[me] = false; owes[me] = seen & SLEEPERS };
        atomic {
            if
            :: seen & SLEEPERS -> futex_wake()
            :: else
            fi;
            owes[me] = false
        };
#else
R1:     atomic {
            assert(owner_of(word) == identity[me]);
            owes[me] = word & SLEEPERS;
            word = 0;
            has[me] = false
        };
R2:     atomic {
            if
            :: owes[me] -> futex_wake()
            :: else
            fi;
            owes[me] = false
        };
#endif
next:   atomic {
            forget();
            round++;
            if
            :: round < ROUNDS -> goto acquire
            :: else -> held[me] = false; goto over
            fi
        }
    } unless {
        atomic { gone[me] -> forget(); round = 0 }
    };
    if
    :: gone[me] = false; goto life
    :: skip
    fi;
over: gone[me] = true
}

/* kill -9: the kernel forgets its sleep and its hold on the slot; nothing else is tidied. */
inline kill(who)
{
    atomic {
        deaths > 0 && !gone[who] ->
        deaths--;
        gone[who] = true;
        held[who] = false;
        asleep[who] = false;
        orphan = orphan || has[who];
        has[who] = false;
        owed = owed || owes[who];
        owes[who] = false
    }
}

proctype fate()
{
end:do
    :: kill(0)
    :: kill(1)
    :: kill(2)
    /* What may yet come would hide that nothing else does. */
    :: atomic { deaths > 0 -> deaths = 0 }
    :: atomic { rechecks > 0 -> rechecks = 0 }
    :: atomic { deadlines > 0 -> deadlines = 0 }
    od
}

init
{
    byte i;
    atomic {
        for (i : 0 .. PROCESSES - 1) {
            run process(i)
        };
        i = 0;
        run fate()
    }
}
