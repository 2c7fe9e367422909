package khaos.lab;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.function.Predicate;

/** The fields of a JSON object. What is missing, or of another type, is named. */
record JsonFields(JsonNode object) {

    /** The end of the year 9999, ms since the epoch. */
    private static final long LATEST_MS = 253_402_300_799_999L;

    private static final ObjectMapper MAPPER =
            new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    static JsonFields of(byte[] json) throws IOException {
        // A record without a value is no event either.
        JsonNode read = json == null ? null : MAPPER.readTree(json);
        if (read == null || !read.isObject()) {
            throw new IOException("not a JSON object");
        }
        return new JsonFields(read);
    }

    /** An object to be filled, field by field in this order. */
    static ObjectNode empty() {
        return MAPPER.createObjectNode();
    }

    static byte[] bytes(ObjectNode object) {
        try {
            return MAPPER.writeValueAsBytes(object);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    String text(String name) throws IOException {
        return field(name, "text", JsonNode::isTextual).textValue();
    }

    /** A time, ms since the epoch. One that is far ahead would make everything after it late for ever. */
    long timeMs(String name) throws IOException {
        Predicate<JsonNode> fits =
                node ->
                        node.isIntegralNumber()
                                && node.canConvertToLong()
                                && node.longValue() >= 0
                                && node.longValue() <= LATEST_MS;
        return field(name, "a whole number from 0 to " + LATEST_MS, fits).longValue();
    }

    /** A number that is neither below {@code -most} nor above {@code most}. */
    double number(String name, double most) throws IOException {
        Predicate<JsonNode> fits = node -> node.isNumber() && Math.abs(node.doubleValue()) <= most;
        return field(name, "a number within ±" + most, fits).doubleValue();
    }

    private JsonNode field(String name, String what, Predicate<JsonNode> fits) throws IOException {
        JsonNode field = object.path(name);
        if (!fits.test(field)) {
            throw new IOException("'" + name + "' is not " + what);
        }
        return field;
    }
}
