package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class StartTest {

    @TempDir Path folder;

    @Test
    void aTimeIsKnownAtOnceAndSkipsNothing() {
        assertEquals(Optional.of(new Start.Begin(7, 7)), new Start.At(7).known());
    }

    @Test
    void aFileTellsOnceItIsThere() throws IOException {
        Path file = folder.resolve("start");
        Start told = new Start.Told(file.toString());
        assertEquals(Optional.empty(), told.known());
        Files.writeString(file, "1700000000000 1700000060000\n");
        assertEquals(Optional.of(new Start.Begin(1_700_000_000_000L, 1_700_000_060_000L)), told.known());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "1", "1 2 3", "1 -2", "1.5 2", "a b", "12", "1 9999999999999999999"})
    void aFileThatSaysSomethingElseIsNamed(String text) throws IOException {
        Path file = Files.writeString(folder.resolve("start"), text);
        Start told = new Start.Told(file.toString());
        String message = assertThrows(IllegalStateException.class, told::known).getMessage();
        assertTrue(message.contains(file.toString()) && message.contains("EPOCH_MS FROM_MS"), message);
    }

    @Test
    void aFileThatCannotBeReadIsNamed() {
        Start told = new Start.Told(folder.toString());
        String message = assertThrows(UncheckedIOException.class, told::known).getMessage();
        assertTrue(message.contains(folder.toString()), message);
    }
}
