/* The event count of shmipc/_native/event.h: no wake is lost.
 *
 * Whoever changes event.h, event.c, sleep_once() of ring_wait.c or the notify functions changes
 * this model with them.  The labels P1 to P5 and Q1 to Q6 are those of event.h.
 *
 * Parkers want one thing each (with BROADCAST: all wait for the same one), publishers publish one
 * in each round.  Up to DEATHS of them are killed, each before any of its steps.  A parker that an
 * exception takes out of its wait (Ctrl-C, close) is to the others as one that died.
 *
 * Shown: who waits for what has been published does not sleep for ever.  A sleeper with nobody to
 * wake him is a state without a next one, which the search reports.  The timed re-check does not
 * help him, except where a death left a wake undone (`owed`); so ordinary wakes are shown to need
 * none.  It may also come at a bad time: RECHECKS sleeps end by themselves at any moment.
 *
 * Memory order.  A processor may load ahead of a store that stands before it, unless a fence
 * stands between (edge C).  So the loads of P4 and Q3 may be done early, and what they got then is
 * used, unless P3 or Q2 throws it away.  (Only "nothing there" and "nobody sleeps" are taken along:
 * the other answers do no harm.)  A loop around a compare-and-swap is one step: its tries that fail
 * leave nothing behind. */

#ifndef PARKERS /* at most 3 */
#define PARKERS 3
#endif
#ifndef PUBLISHERS /* at most 2 */
#define PUBLISHERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RECHECKS
#define RECHECKS 1
#endif

/* The word: its bit "somebody may sleep" and its epoch.  Nobody reads the number of the epoch, only
 * whether the word is still what it was.  So that is what the model keeps, for each process, and
 * parkers that chase one another round P1 to P5 do not make new states for ever. */
bool sleepers;
bool same[5];

byte there;     /* things published and not yet taken */
bool asleep[5]; /* in the kernel's queue on the word */

byte publishing = PUBLISHERS; /* publishers that are not done */
byte deaths = DEATHS, rechecks = RECHECKS;
bool gone[5]; /* dead or done */
bool owes[5]; /* its death now would leave somebody without a wake that he was due */
bool owed;    /* ... and has */

inline remember() /* the word, as it is now */
{
    same[me] = true
}

inline change() /* the word: everybody's memory of it is out of date */
{
    for (v : 0 .. 4) {
        same[v] = false
    }
    v = 0
}

/* The kernel's part: futex_wait compares and queues in one step, futex_wake says how many.  It
 * may choose whom it wakes.  Who is woken alone owes a look: it is in the others' stead. */
inline futex_wait(me)
{
    asleep[me] = same[me];
    same[me] = false
}

inline wake(parker)
{
    asleep[parker] = false;
#ifndef BROADCAST
    owes[parker] = true;
#endif
    woken = true
}

inline futex_wake()
{
    woken = false;
#ifdef BROADCAST
    for (v : 0 .. 2) {
        if
        :: asleep[v] -> wake(v)
        :: else
        fi
    }
    v = 0
#else
    if
    :: asleep[0] -> wake(0)
    :: asleep[1] -> wake(1)
    :: asleep[2] -> wake(2)
    :: else
    fi
#endif
}

proctype parker(byte me)
{
    byte v;
    bool ahead, found; /* P4 was loaded ahead of P2, and what it found */

    {
        skip; /* Promela does not let a block begin with a label */
P1:     atomic { /* takes it if it is there: that is under a lock, elsewhere */
            owes[me] = false;
            if
            :: there > 0 ->
#ifndef BROADCAST
                there--;
#endif
                goto done
            :: else
            fi
        };
        if
        :: atomic { there == 0 -> ahead = true; found = false }
        :: skip
        fi;
P2:     atomic { /* shm_event_prepare() */
#ifdef MUTATION_LEAVES_A_SET_BIT /* prepare: no move of the epoch when the bit is there */
            if
            :: sleepers
            :: else -> change()
            fi;
#else
            change();
#endif
            sleepers = true;
            remember()
        };
P3:
#ifndef MUTATION_NO_FENCE_P3 /* prepare: fence_full() */
        ahead = false;
#endif
P4:     atomic { /* sleep_once(): condition() */
#ifndef MUTATION_NO_SECOND_LOOK
            if
            :: !ahead -> found = (there > 0)
            :: else
            fi;
#endif
            ahead = false;
            if
            :: found -> found = false; goto P1
            :: else
            fi
        };
P5:     atomic { /* shm_park() */
#ifdef MUTATION_SLEEPS_ON_A_NEWER_WORD /* shm_park() with what the word is now */
            remember();
#endif
            futex_wait(me)
        };
        if
        :: !asleep[me] -> goto P1 /* woken, or the word had changed */
        :: atomic { asleep[me] && rechecks > 0 -> rechecks--; asleep[me] = false }; goto P1
#ifndef MUTATION_SLEEPS_WITHOUT_LIMIT /* shm_park() without its interval */
        :: atomic { asleep[me] && owed && there > 0 -> asleep[me] = false }; goto P1
#endif
        :: atomic { asleep[me] && publishing == 0 && there == 0 -> goto done } /* in peace */
        fi;
done:   atomic { asleep[me] = false; owes[me] = false; gone[me] = true }
    } unless { gone[me] }
}

proctype publisher(byte me)
{
    byte v, round;
    bool ahead, seen, woken; /* Q3 was loaded ahead of Q1; the bit that Q3 saw; what Q5 said */

    {
        do
        :: round < ROUNDS ->
            if
            :: atomic { !sleepers -> ahead = true; seen = false }
            :: skip
            fi;
Q1:         atomic { there++; owes[me] = true; round++ };
Q2:
#ifndef MUTATION_NO_FENCE_Q2 /* shm_event_notify(): fence_full() */
            ahead = false;
#endif
Q3:         atomic { /* shm_event_has_sleepers() */
                if
                :: !ahead -> seen = sleepers
                :: else
                fi;
                ahead = false;
                if
                :: !seen -> goto published
                :: else -> seen = false
                fi
            };
Q4:         atomic { /* shm_event_wake() */
                if
                :: !sleepers -> goto published
                :: else
                fi;
#ifndef MUTATION_KEEPS_THE_EPOCH /* wake: moved = word */
                change();
#endif
                remember()
            };
Q5:         atomic { futex_wake(); owes[me] = false }; /* shm_unpark() */
Q6:         atomic {
#ifdef MUTATION_CLEARS_ALWAYS /* wake: no `if` around the last compare_exchange */
                woken = false;
#endif
                if
#ifdef MUTATION_CLEARS_BLINDLY /* wake: an atomic AND instead of the last compare_exchange */
                :: !woken && sleepers -> sleepers = false; change()
#else
                :: !woken && same[me] -> sleepers = false; change()
#endif
                :: else
                fi;
                woken = false
            };
published:  atomic { owes[me] = false; same[me] = false }
        :: else -> break
        od;
        atomic { publishing--; gone[me] = true }
    } unless { gone[me] }
}

/* kill -9: the kernel takes the dead out of its queue; nothing else is tidied. */
inline kill(who)
{
    atomic {
        deaths > 0 && !gone[who] ->
        deaths--;
        gone[who] = true;
        if
        :: who < 3 -> asleep[who] = false
        :: else -> publishing--
        fi;
        owed = owed || owes[who];
        owes[who] = false;
        same[who] = false
    }
}

proctype fate()
{
end:do
    :: kill(0)
    :: kill(1)
    :: kill(2)
    :: kill(3)
    :: kill(4)
    /* A death or a re-check that may yet come would hide that nothing else does. */
    :: atomic { deaths > 0 -> deaths = 0 }
    :: atomic { rechecks > 0 -> rechecks = 0 }
    od
}

init
{
    byte i;
    atomic {
        for (i : 0 .. 4) {
            if
            :: i < PARKERS -> run parker(i)
            :: i >= 3 && i < 3 + PUBLISHERS -> run publisher(i)
            :: else -> gone[i] = true
            fi
        };
        i = 0;
        run fate()
    }
}
