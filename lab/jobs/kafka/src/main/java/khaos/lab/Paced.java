package khaos.lab;

import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;

/** Lets events through as fast as a machine of the chosen capacity would: each takes its time. */
final class Paced<T extends TimedEvent> extends RichMapFunction<T, T> {

    private static final long serialVersionUID = 1L;

    private final long capacity;
    private transient Pacer pacer;

    Paced(long capacity) {
        this.capacity = capacity;
    }

    @Override
    public void open(OpenContext context) {
        int subtasks = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
        pacer = new Pacer((double) capacity / subtasks, Pacer.Time.SYSTEM);
    }

    @Override
    public T map(T event) {
        pacer.work(TimeUnit.MILLISECONDS.toNanos(System.currentTimeMillis() - event.timeMs()));
        return event;
    }
}
