package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Proxy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.SimpleCounter;
import org.apache.flink.metrics.groups.OperatorIOMetricGroup;
import org.apache.flink.metrics.groups.SourceReaderMetricGroup;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PacedReaderTest {

    private static final RateSchedule ONE_SECOND = RateSchedule.parse("1:100,1:0", RateSchedule.Then.HOLD);

    @TempDir Path folder;

    private final Counter recordsIn = new SimpleCounter();

    @Test
    void primesAtOnceAndReadsOnlyOnceItIsTold() throws Exception {
        Path file = folder.resolve("start");
        List<Event> read = new ArrayList<>();
        try (PacedReader reader = reader(new Start.Told(file.toString()))) {
            reader.addSplits(List.of(PacedSplit.untold(0, 1)));
            drain(reader, read);
            assertEquals(List.of(0L, 1L, 2L), read.stream().filter(Event::primes).map(Event::index).toList());
            assertEquals(3, read.size(), "nothing arrives yet");
            assertEquals(0, recordsIn.getCount(), "nothing arrived");

            read.clear();
            long epochMs = System.currentTimeMillis() - 60_000;
            Files.writeString(file, epochMs + " " + (epochMs + 400));
            // It wakes up by itself.
            for (int looks = 0; read.isEmpty() && looks < 100; looks++) {
                reader.isAvailable().get(1, TimeUnit.SECONDS);
                drain(reader, read);
            }
            List<Long> unskipped = LongStream.range(40, 100).boxed().toList();
            assertEquals(unskipped, read.stream().map(Event::index).toList());
            assertEquals(60, recordsIn.getCount());
            assertEquals(List.of(new PacedSplit(0, 1, epochMs, 3, 100)), reader.snapshotState(1));
        }
    }

    @Test
    void aSplitThatHasBegunGoesOnWhateverTheFileSays() throws Exception {
        Path file = Files.writeString(folder.resolve("start"), "nonsense");
        PacedSplit begun = new PacedSplit(0, 1, System.currentTimeMillis() - 60_000, 3, 98);
        List<Event> read = new ArrayList<>();
        try (PacedReader reader = reader(new Start.Told(file.toString()))) {
            reader.addSplits(List.of(begun));
            drain(reader, read);
        }
        assertEquals(List.of(98L, 99L), read.stream().map(Event::index).toList());
        assertTrue(read.stream().noneMatch(Event::primes));
    }

    private PacedReader reader(Start start) {
        OperatorIOMetricGroup io = only(OperatorIOMetricGroup.class, (name, argument) -> recordsIn);
        SourceReaderMetricGroup metrics = only(SourceReaderMetricGroup.class, (name, gauge) -> io);
        SourceReaderContext context =
                only(SourceReaderContext.class, (name, argument) -> name.equals("metricGroup") ? metrics : 0);
        return new PacedReader(ONE_SECOND, start, 3, true, context);
    }

    @SuppressWarnings("unchecked")
    private static void drain(PacedReader reader, List<Event> read) throws Exception {
        ReaderOutput<Event> output =
                only(ReaderOutput.class, (name, event) -> name.equals("collect") && read.add((Event) event));
        InputStatus status = InputStatus.MORE_AVAILABLE;
        while (status == InputStatus.MORE_AVAILABLE) {
            status = reader.pollNext(output);
        }
    }

    private interface Answer {
        Object to(String method, Object argument);
    }

    /** An interface of Flink of which the reader needs a method or two. */
    private static <T> T only(Class<T> type, Answer answer) {
        return type.cast(
                Proxy.newProxyInstance(
                        type.getClassLoader(),
                        new Class<?>[] {type},
                        (proxy, method, arguments) -> {
                            Object said = answer.to(method.getName(), arguments == null ? null : arguments[0]);
                            return method.getReturnType() == void.class ? null : said;
                        }));
    }
}
