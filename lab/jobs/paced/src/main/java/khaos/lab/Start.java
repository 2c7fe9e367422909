package khaos.lab;

import java.io.IOException;
import java.io.Serializable;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** When the schedule begins: known at the submission, or told later. */
sealed interface Start extends Serializable {

    /** Nothing before it is known; from then on always the same. */
    Optional<Begin> known();

    /**
     * The beginning.
     *
     * @param epochMs wall clock at which the schedule starts; it may lie in the past
     * @param fromMs wall clock: what arrived by then is skipped, so that no backlog is there at first
     */
    record Begin(long epochMs, long fromMs) {}

    /** At a time that is known, with all that arrives. */
    record At(long epochMs) implements Start {

        @Override
        public Optional<Begin> known() {
            return Optional.of(new Begin(epochMs, epochMs));
        }
    }

    /**
     * As a file says, {@code EPOCH_MS FROM_MS}, once it is there. Whoever writes it renames it into place, so that
     * what is there is whole.
     */
    record Told(String file) implements Start {

        /** As many digits as surely fit a long, and no sign: their differences fit too. */
        private static final Pattern TEXT = Pattern.compile("\\s*(\\d{1,18})\\s+(\\d{1,18})\\s*");

        @Override
        public Optional<Begin> known() {
            try {
                return Optional.of(read(Files.readString(Path.of(file))));
            } catch (NoSuchFileException e) {
                return Optional.empty();
            } catch (IOException e) {
                throw new UncheckedIOException("cannot read --starts-with " + file, e);
            }
        }

        private Begin read(String text) {
            Matcher numbers = TEXT.matcher(text);
            if (!numbers.matches()) {
                throw new IllegalStateException(
                        "--starts-with " + file + " holds '" + text + "', not EPOCH_MS FROM_MS, two whole numbers");
            }
            return new Begin(Long.parseLong(numbers.group(1)), Long.parseLong(numbers.group(2)));
        }
    }
}
