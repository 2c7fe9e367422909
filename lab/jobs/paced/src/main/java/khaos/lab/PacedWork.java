package khaos.lab;

import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The job's work: each event takes its time and counts under its key, beside ballast of the chosen size. */
final class PacedWork extends KeyedProcessFunction<Integer, Event, Long> {

    private static final long serialVersionUID = 1L;

    private final long capacity;
    private final long stateBytes;
    private final int slots;
    private transient Pacer pacer;
    private transient ValueState<Long> count;
    private transient ValueState<byte[]> ballast;

    PacedWork(long capacity, long stateBytes, int slots) {
        this.capacity = capacity;
        this.stateBytes = stateBytes;
        this.slots = slots;
    }

    @Override
    public void open(OpenContext context) {
        int subtasks = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
        pacer = new Pacer((double) capacity / subtasks, Pacer.Time.SYSTEM);
        count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Long.class));
        ballast = getRuntimeContext().getState(new ValueStateDescriptor<>("ballast", byte[].class));
    }

    @Override
    public void processElement(Event event, Context context, Collector<Long> out) throws Exception {
        if (event.primes()) {
            ballast.update(ballastOf((int) event.index()));
            return;
        }
        Long before = count.value();
        // A source that does not prime leaves the state to the first event of each key.
        if (before == null && ballast.value() == null) {
            ballast.update(ballastOf((int) (event.index() % slots)));
        }
        pacer.work(TimeUnit.MILLISECONDS.toNanos(System.currentTimeMillis() - context.timestamp()));
        count.update(before == null ? 1 : before + 1);
        out.collect(event.index());
    }

    /** This key's part of the state; random, so that no compression makes it smaller than it was asked to be. */
    private byte[] ballastOf(int slot) {
        long bytes = stateBytes / slots + (slot < stateBytes % slots ? 1 : 0);
        byte[] noise = new byte[Math.toIntExact(bytes)];
        new SplittableRandom(slot).nextBytes(noise);
        return noise;
    }
}
