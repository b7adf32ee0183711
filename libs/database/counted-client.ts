import { Client } from 'pg';
import { Counter } from '@app/runtime';
import { postgresFault } from './postgres-fault';

/** Faults of which an operator has to know which it is (PostgreSQL, appendix A). */
const named = new Map([
  ['53100', 'disk_full'],
  ['53300', 'too_many_connections'],
  ['25006', 'read_only'],
]);
const kinds = [...named.values(), 'unreachable', 'busy', 'ours'];

/** `events`: the database of the service. `mail_server`: the one that Postfix reads. */
export type CountedDatabase = 'events' | 'mail_server';

const faults = new Counter({
  name: 'sendmux_database_faults_total',
  help: 'Statements and connections that PostgreSQL has refused or not answered, but for what a value has caused',
  labelNames: ['database', 'fault'],
});

/** Starts the counters of a database at zero, since an alarm on a rate needs a first value. */
export function startCounting(database: CountedDatabase): void {
  for (const fault of kinds) faults.inc({ database, fault }, 0);
}

type Callback = (error: unknown, ...rest: unknown[]) => void;

/** Counts the faults of its database that its user meets, whatever he makes of them. */
export class CountedClient extends Client {
  protected readonly of: CountedDatabase = 'events';

  override connect(...args: unknown[]): never {
    return this.counted((...passed) => super.connect(...(passed as [])), args);
  }

  override query(...args: unknown[]): never {
    return this.counted((...passed) => super.query(...(passed as Parameters<Client['query']>)), args);
  }

  /** Counts that its user cannot write where it leads. */
  countStandby(): void {
    faults.inc({ database: this.of, fault: 'read_only' });
  }

  /** Passes a call on, and counts the error that it gives to its callback or by its promise. */
  private counted(call: (...args: unknown[]) => unknown, args: readonly unknown[]): never {
    const given = args.at(-1);
    if (typeof given === 'function') {
      const tell: Callback = (error, ...rest) => {
        this.count(error);
        (given as Callback)(error, ...rest);
      };
      return call(...args.slice(0, -1), tell) as never;
    }
    const answer = call(...args);
    // The promise that the caller gets rejects as well.
    if (answer instanceof Promise) answer.catch((error: unknown) => this.count(error));
    return answer as never;
  }

  private count(error: unknown): void {
    if (!error) return;
    const fault = named.get(String((error as { readonly code?: unknown }).code)) ?? postgresFault(error);
    if (fault !== undefined && fault !== 'data') faults.inc({ database: this.of, fault });
  }
}
