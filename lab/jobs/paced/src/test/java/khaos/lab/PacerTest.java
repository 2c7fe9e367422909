package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class PacerTest {

    private static final long FRESH = 10_000_000;
    private static final long OVERDUE = 60_000_000_000L;

    /** Sleeps cost what was asked plus a fixed lateness; nothing else takes time unless told. */
    private static final class Simulated implements Pacer.Time {
        private final long lateNs;
        private long nowNs;
        private long sleeps;

        Simulated(long lateNs) {
            this.lateNs = lateNs;
        }

        @Override
        public long nanos() {
            return nowNs;
        }

        @Override
        public void sleep(long nanos) {
            sleeps++;
            nowNs += nanos + lateNs;
        }
    }

    @Test
    void aBusyTaskRunsAtCapacityThoughSleepsAreLateAndRecordsHaveOverhead() {
        Simulated time = new Simulated(700_000);
        Pacer pacer = new Pacer(2500, time);
        for (int i = 0; i < 25_000; i++) {
            time.nowNs += 10_000;
            pacer.work(OVERDUE);
        }
        // 25 000 records at 2500/s are 10 s; what is still owed is less than one sleep.
        assertEquals(10e9, time.nowNs, 3e6);
    }

    @Test
    void waitingForInputEarnsNothing() {
        Simulated time = new Simulated(0);
        Pacer pacer = new Pacer(1000, time);
        for (int batch = 0; batch < 200; batch++) {
            time.nowNs += 5_000_000;
            for (int i = 0; i < 5; i++) {
                pacer.work(FRESH);
            }
        }
        // 1 s of waiting for 200 batches, then 1 s for the work of 1000 records, however they take turns.
        assertEquals(2e9, time.nowNs, 3e6);
        // Two records' worth at a time.
        assertEquals(500, time.sleeps);
    }

    @Test
    void withABacklogShortStallsAreMadeGood() {
        Simulated time = new Simulated(0);
        Pacer pacer = new Pacer(1000, time);
        for (int i = 0; i < 1000; i++) {
            time.nowNs += i % 100 == 0 ? 20_000_000 : 0;
            pacer.work(OVERDUE);
        }
        assertEquals(1e9, time.nowNs, 3e6);
    }

    @Test
    void aLongStallIsNotMadeGoodByALongBurst() {
        Simulated time = new Simulated(0);
        Pacer pacer = new Pacer(1000, time);
        time.nowNs += 5_000_000_000L;
        long start = time.nowNs;
        for (int i = 0; i < 1000; i++) {
            pacer.work(OVERDUE);
        }
        // A quarter of a second of it, no more.
        assertEquals(0.75e9, time.nowNs - start, 3e6);
    }
}
