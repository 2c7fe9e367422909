package khaos.lab;

import java.util.concurrent.locks.LockSupport;

/**
 * Makes work last as long as it would on a machine of a given capacity, by sleeping.
 *
 * <p>Each record costs a fixed time. Costs are saved up and slept in pieces of a few milliseconds, because a sleep
 * of less is mostly overhead. What is owed shrinks by everything that took time without being the pacer's wish:
 * sleeping too long, and the gap before a record that was there already. So a task with a backlog runs at exactly
 * the capacity, whatever else the machine is doing, while the time in which a task waits for input earns nothing:
 * being idle does not make anybody faster later.
 */
final class Pacer {

    private static final long SHORTEST_SLEEP_NS = 2_000_000;
    /** A gap up to here is the task's own work, whenever the record came. */
    private static final long LONGEST_OVERHEAD_NS = 1_000_000;
    /** How late a record may be that the job has only just been able to see: batching on its way here. */
    private static final long LONGEST_TRANSPORT_NS = 100_000_000;
    /** What was lost is made good up to here; more would turn a long stall into a burst. */
    private static final long MOST_CREDIT_NS = 250_000_000;

    /** The clock and the sleep, so that a test can stand in for both. */
    interface Time {
        long nanos();

        void sleep(long nanos);

        /** The machine's. */
        Time SYSTEM =
                new Time() {
                    @Override
                    public long nanos() {
                        return System.nanoTime();
                    }

                    @Override
                    public void sleep(long nanos) {
                        LockSupport.parkNanos(nanos);
                    }
                };
    }

    private final Time time;
    private final long costNs;
    private long owedNs;
    private long lastNs;

    Pacer(double recordsPerSecond, Time time) {
        this.time = time;
        this.costNs = Math.round(1e9 / recordsPerSecond);
        this.lastNs = time.nanos();
    }

    /** Takes the time of one record that arrived {@code ageNs} ago. */
    void work(long ageNs) {
        long gapNs = time.nanos() - lastNs;
        boolean wasWaitedFor = gapNs > LONGEST_OVERHEAD_NS && ageNs < gapNs + LONGEST_TRANSPORT_NS;
        owedNs = Math.max(owedNs + costNs - (wasWaitedFor ? 0 : gapNs), -MOST_CREDIT_NS);
        if (owedNs >= SHORTEST_SLEEP_NS) {
            sleepOff();
        }
        lastNs = time.nanos();
    }

    private void sleepOff() {
        long startNs = time.nanos();
        time.sleep(owedNs);
        owedNs = Math.max(owedNs - (time.nanos() - startNs), -MOST_CREDIT_NS);
    }
}
