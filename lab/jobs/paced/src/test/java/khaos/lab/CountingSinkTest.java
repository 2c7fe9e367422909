package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import java.util.stream.Stream;
import org.apache.flink.api.connector.sink2.Committer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CountingSinkTest {

    @TempDir Path folder;

    @Test
    void eachCheckpointHasItsOwnSum() {
        CountingSink.Writer writer = new CountingSink.Writer();
        assertEquals(List.of(), writer.prepareCommit());
        Stream.of(3L, 4L).forEach(index -> writer.write(index, null));
        Delivery first = writer.prepareCommit().iterator().next();
        writer.write(5L, null);
        Delivery second = writer.prepareCommit().iterator().next();
        assertEquals(new Delivery(first.id(), 2, 7), first);
        assertEquals(new Delivery(second.id(), 1, 5), second);
        assertNotEquals(first.id(), second.id());
        assertEquals(List.of(), writer.prepareCommit());
    }

    @Test
    void whatIsCommittedTwiceIsThereOnce() throws IOException {
        Delivery one = new Delivery(new UUID(0, 1), 2, 7);
        Delivery other = new Delivery(new UUID(0, 2), 1, 5);
        try (CountingSink.Folder committer = new CountingSink(folder.resolve("new").toString()).createCommitter(null)) {
            committer.commit(requests(one));
            committer.commit(requests(one, other));
        }
        try (Stream<Path> files = Files.list(folder.resolve("new"))) {
            assertEquals(2, files.count(), "nothing unfinished is left");
        }
        assertEquals("2 7\n", Files.readString(folder.resolve("new").resolve(one.id().toString())));
        assertEquals("1 5\n", Files.readString(folder.resolve("new").resolve(other.id().toString())));
    }

    @Test
    void survivesACheckpoint() throws IOException {
        Delivery delivery = new Delivery(new UUID(-3, 4), 5, 1L << 40);
        Delivery.Serializer serializer = new Delivery.Serializer();
        assertEquals(delivery, serializer.deserialize(1, serializer.serialize(delivery)));
        assertThrows(IOException.class, () -> serializer.deserialize(2, serializer.serialize(delivery)));
    }

    private static List<Committer.CommitRequest<Delivery>> requests(Delivery... deliveries) {
        return Arrays.stream(deliveries).<Committer.CommitRequest<Delivery>>map(Request::new).toList();
    }

    /** A request whose answer nobody wants. */
    private record Request(Delivery delivery) implements Committer.CommitRequest<Delivery> {

        @Override
        public Delivery getCommittable() {
            return delivery;
        }

        @Override
        public int getNumberOfRetries() {
            return 0;
        }

        @Override
        public void signalFailedWithKnownReason(Throwable reason) {
            throw new AssertionError(reason);
        }

        @Override
        public void signalFailedWithUnknownReason(Throwable reason) {
            throw new AssertionError(reason);
        }

        @Override
        public void retryLater() {
            throw new AssertionError("retried");
        }

        @Override
        public void updateAndRetryLater(Delivery changed) {
            throw new AssertionError("changed");
        }

        @Override
        public void signalAlreadyCommitted() {
            throw new AssertionError("given up");
        }
    }
}
