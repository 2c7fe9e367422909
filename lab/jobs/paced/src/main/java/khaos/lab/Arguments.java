package khaos.lab;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/** The {@code --name value} pairs of a job that were not read yet. What is wrong with them says how it is right. */
final class Arguments {

    private final Map<String, String> values = new LinkedHashMap<>();
    private final String usage;

    Arguments(String[] args, String usage) {
        this.usage = usage;
        for (int i = 0; i < args.length; i += 2) {
            if (!args[i].startsWith("--") || i + 1 == args.length) {
                throw new IllegalArgumentException("'" + args[i] + "' is not --name value. Usage: " + usage);
            }
            values.put(args[i].substring(2), args[i + 1]);
        }
    }

    String required(String name) {
        return optional(name).orElseThrow(() -> missing(name));
    }

    Optional<String> optional(String name) {
        return Optional.ofNullable(values.remove(name));
    }

    /** A whole number that is not below {@code least}. */
    long requiredWhole(String name, long least) {
        return whole(name, least).orElseThrow(() -> missing(name));
    }

    Optional<Long> whole(String name, long least) {
        String value = values.remove(name);
        if (value == null) {
            return Optional.empty();
        }
        try {
            long number = Long.parseLong(value);
            if (number >= least) {
                return Optional.of(number);
            }
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("--" + name + " is a whole number, not '" + value + "'", e);
        }
        throw new IllegalArgumentException("--" + name + " is at least " + least + ", not " + value);
    }

    void refuseLeftOver() {
        if (!values.isEmpty()) {
            throw new IllegalArgumentException("unknown options " + values.keySet() + ". Usage: " + usage);
        }
    }

    private IllegalArgumentException missing(String name) {
        return new IllegalArgumentException("--" + name + " is missing. Usage: " + usage);
    }
}
