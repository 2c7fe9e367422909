package khaos.lab;

import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;

/** <code>{"plate":"B-KH 17","lat":52.51,"lon":13.38,"time":1764054000123}</code>: degrees, ms since the epoch. */
final class VehicleFormat implements EventFormat<Vehicle> {

    private static final long serialVersionUID = 1L;

    @Override
    public Vehicle read(int partition, byte[] value) throws IOException {
        JsonFields fields = JsonFields.of(value);
        return new Vehicle(
                partition,
                fields.text("plate"),
                fields.number("lat", 90),
                fields.number("lon", 180),
                fields.timeMs("time"));
    }

    @Override
    public TypeInformation<Vehicle> type() {
        return TypeInformation.of(Vehicle.class);
    }
}
