import { Injectable } from '@nestjs/common';

/** Resolves when the part is healthy; rejects with a message that says what is wrong. */
export type Probe = () => Promise<unknown>;

/**
 * Collects the health of the parts of a process. `ready`: the part can do its work now. `live`: it still makes
 * progress; when it fails, only a restart helps.
 */
@Injectable()
export class HealthProbes {
  private readonly probes = { live: new Map<string, Probe>(), ready: new Map<string, Probe>() };

  add(kind: 'live' | 'ready', name: string, probe: Probe): void {
    this.probes[kind].set(name, probe);
  }

  of(kind: 'live' | 'ready'): [string, Probe][] {
    return [...this.probes[kind]];
  }
}
