import { runApps } from '@app/process';
import { appsOf } from './apps';

/** Runs the apps of a small installation in one process: those that the arguments name, or all. */
try {
  void runApps('all-in-one', [appsOf(process.argv.slice(2), !!process.env.KAFKA_BROKERS)]);
} catch (error) {
  process.stderr.write(`all-in-one cannot start.\n${(error as Error).message}\n`);
  process.exitCode = 1;
}
