// Starts one Elasticsearch node from plain jars. The jars on Maven Central hold the whole server but not its start-up scripts, so this class does what
// `bin/elasticsearch` and its bootstrap do, less what a test node does not need: no security manager (8.x), no entitlement agent (9.x), no keystore.
// Everything that differs between 8.10 and 9.x goes through reflection, so that one source serves all versions.
//
// Usage: java … Launcher CONFIG_DIR [PID]    settings come from CONFIG_DIR/elasticsearch.yml; with PID, the node stops when that process ends.

import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.function.Supplier;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;

public final class Launcher {
    public static void main(String[] args) throws Exception {
        Path config = Path.of(args[0]);
        Supplier<String> noDefaultName = () -> {
            throw new IllegalStateException("node.name must be set");
        };
        LogConfigurator.configureESLogging();
        LogConfigurator.registerErrorListener();
        Class.forName("org.elasticsearch.bootstrap.BootstrapInfo").getMethod("init").invoke(null);
        Environment environment = InternalSettingsPreparer.prepareEnvironment(Settings.EMPTY, Map.of(), config, noDefaultName);
        LogConfigurator.setNodeName(Node.NODE_NAME_SETTING.get(environment.settings()));
        LogConfigurator.configure(environment, true);

        Node node = newNode(environment);
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
            closed.countDown();
        }, "close-node"));
        if (args.length > 1) {
            exitWith(Long.parseLong(args[1]));
        }
        node.start();
        closed.await();
    }

    /** 8.10 to 8.15 load plugins inside the node; later versions take a loader. */
    private static Node newNode(Environment environment) throws Exception {
        Class<?> loaderClass;
        try {
            loaderClass = Class.forName("org.elasticsearch.plugins.PluginsLoader");
        } catch (ClassNotFoundException e) {
            return Node.class.getConstructor(Environment.class).newInstance(environment);
        }
        Object modules = loaderClass.getMethod("loadModulesBundles", Path.class).invoke(null, folder(environment, "modules"));
        Object plugins = loaderClass.getMethod("loadPluginsBundles", Path.class).invoke(null, folder(environment, "plugins"));
        Method create = loaderClass.getMethod("createPluginsLoader", java.util.Set.class, java.util.Set.class, Map.class, boolean.class);
        Object loader = create.invoke(null, modules, plugins, Map.of(), false);
        return Node.class.getConstructor(Environment.class, loaderClass).newInstance(environment, loader);
    }

    /** `modulesDir()` in 8.19 and 9.x, `modulesFile()` before. */
    private static Path folder(Environment environment, String name) throws Exception {
        try {
            return (Path) Environment.class.getMethod(name + "Dir").invoke(environment);
        } catch (NoSuchMethodException e) {
            return (Path) Environment.class.getMethod(name + "File").invoke(environment);
        }
    }

    private static void exitWith(long pid) {
        ProcessHandle owner = ProcessHandle.of(pid).orElseThrow(() -> new IllegalStateException("no process " + pid));
        owner.onExit().thenRun(() -> System.exit(0));
    }
}
