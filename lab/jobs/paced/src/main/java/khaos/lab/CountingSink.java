package khaos.lab;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Collection;
import java.util.List;
import java.util.UUID;
import org.apache.flink.api.connector.sink2.Committer;
import org.apache.flink.api.connector.sink2.CommitterInitContext;
import org.apache.flink.api.connector.sink2.CommittingSinkWriter;
import org.apache.flink.api.connector.sink2.SupportsCommitter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * Counts what is delivered, exactly once: each {@link Delivery} becomes a file of a folder when its checkpoint is
 * complete. Whoever sums up the files knows whether anything was lost or came twice.
 *
 * <p>Flink 1.20 wants a second {@code createWriter}, whose parameter's class is gone in 2.x, where a sink that has
 * the method cannot be serialized. Each Flink's own {@code DiscardingSink} has what that Flink wants.
 */
final class CountingSink extends DiscardingSink<Long> implements SupportsCommitter<Delivery> {

    private static final long serialVersionUID = 1L;

    /** A string: paths are not serializable. */
    private final String folder;

    CountingSink(String folder) {
        this.folder = folder;
    }

    @Override
    public Writer createWriter(WriterInitContext context) {
        return new Writer();
    }

    @Override
    public Folder createCommitter(CommitterInitContext context) throws IOException {
        return new Folder(Files.createDirectories(Path.of(folder)));
    }

    @Override
    public SimpleVersionedSerializer<Delivery> getCommittableSerializer() {
        return new Delivery.Serializer();
    }

    /** Sums from checkpoint to checkpoint. It needs no state: at a checkpoint nothing is left in it. */
    static final class Writer implements CommittingSinkWriter<Long, Delivery> {

        private long events;
        private long sum;

        @Override
        public void write(Long index, Context context) {
            events++;
            sum = Math.addExact(sum, index);
        }

        @Override
        public Collection<Delivery> prepareCommit() {
            if (events == 0) {
                return List.of();
            }
            Delivery delivery = new Delivery(UUID.randomUUID(), events, sum);
            events = 0;
            sum = 0;
            return List.of(delivery);
        }

        @Override
        public void flush(boolean endOfInput) {}

        @Override
        public void close() {}
    }

    /** Writes the files. Committing again, as happens after a failure, leaves the same file. */
    record Folder(Path path) implements Committer<Delivery> {

        @Override
        public void commit(Collection<CommitRequest<Delivery>> requests) throws IOException {
            for (CommitRequest<Delivery> request : requests) {
                Delivery delivery = request.getCommittable();
                // Its name begins with a dot: nobody counts it before it is whole.
                Path unfinished = Files.createTempFile(path, ".", ".tmp");
                Files.writeString(unfinished, delivery.events() + " " + delivery.sum() + "\n");
                Files.move(unfinished, path.resolve(delivery.id().toString()), StandardCopyOption.ATOMIC_MOVE);
            }
        }

        @Override
        public void close() {}
    }
}
