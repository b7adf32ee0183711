import { BadRequestException, Body, Controller, Delete, Get, HttpCode, Injectable, Param, Put } from '@nestjs/common';
import { z } from 'zod';

/**
 * The faults of each API. `refuse`: SES does not accept the name. `deny` and `full`: it refuses the account, which
 * lacks a permission or has as many identities as it may. `late`: the right answer, after `after_ms`. `hang`: no effect
 * and no answer. `hang_after` and `hang_up_after`: the effect, but no answer. `act_late`: no answer, and the effect
 * after `after_ms`.
 */
const modes = {
  ses: ['refuse', 'deny', 'full', 'throttle', 'error', 'garbage', 'late', 'act_late', 'hang', 'hang_after'],
  /**
   * `bogus`: SERVFAIL unless the query disables DNSSEC checking (CD); `lie`: a record that is not in the zone;
   * `nxdomain`: no such name, whatever the zone contains.
   */
  'doh-a': ['servfail', 'bogus', 'refused', 'nxdomain', 'lie', 'garbage', 'http_500', 'late', 'hang'],
  'doh-b': ['servfail', 'bogus', 'refused', 'nxdomain', 'lie', 'garbage', 'http_500', 'late', 'hang'],
  /** At RCPT: `refuse` permanently (550), `tempfail` temporarily (451), `hang`; after DATA: `hang_up_after`. */
  smtp: ['refuse', 'tempfail', 'hang', 'hang_up_after'],
} as const;
export type Api = keyof typeof modes;
export type Mode<Of extends Api> = (typeof modes)[Of][number];

export const sesOperations = [
  'CreateEmailIdentity',
  'GetEmailIdentity',
  'DeleteEmailIdentity',
  'PutEmailIdentityDkimSigningAttributes',
  'PutEmailIdentityMailFromAttributes',
  'ListEmailIdentities',
  'TagResource',
  'CreateConfigurationSet',
  'PutEmailIdentityConfigurationSetAttributes',
  'CreateTenant',
  'GetTenant',
  'DeleteTenant',
  'ListTenants',
  'ListResourceTenants',
  'CreateTenantResourceAssociation',
  'DeleteTenantResourceAssociation',
  'GetAccount',
] as const;
export type SesOperation = (typeof sesOperations)[number];

const faultOf = (api: Api) =>
  z.strictObject({
    mode: z.enum(modes[api]),
    /** The number of times after which the fault ends by itself. */
    times: z.int().positive().optional(),
    /** The delay of `late` and `act_late`, in milliseconds. */
    after_ms: z.int().min(0).max(600_000).default(1_000),
    operations: api === 'ses' ? z.array(z.enum(sesOperations)).min(1).optional() : z.undefined().optional(),
    /** The identity that alone is concerned, beside the fault of all. */
    name: api === 'ses' ? z.string().max(255).toLowerCase().optional() : z.undefined().optional(),
  });

interface Fault {
  readonly mode: string;
  readonly operations?: readonly SesOperation[];
  readonly name?: string;
  readonly after_ms: number;
  times?: number;
}

/** Keeps the faults that were switched on by HTTP until they are switched off. */
@Injectable()
export class Faults {
  readonly active = new Map<Api, Fault>();
  /** The faults of SES that concern one identity, by its name. They come before that of all. */
  readonly ofNames = new Map<string, Fault>();

  /**
   * Gives the fault that an API has to show now, and counts it.
   *
   * @param among the modes that can be shown at this point; a fault of another mode is not counted.
   */
  take<Of extends Api, M extends Mode<Of>>(
    api: Of,
    { operation, name, among }: { operation?: SesOperation; name?: string; among?: readonly M[] } = {},
  ): { mode: M; afterMs: number } | undefined {
    const ofName = name === undefined ? undefined : this.ofNames.get(name);
    const fault = ofName ?? this.active.get(api);
    if (!fault || (operation && fault.operations && !fault.operations.includes(operation))) return undefined;
    const mode = fault.mode as M;
    if (among && !among.includes(mode)) return undefined;
    if (fault.times !== undefined && --fault.times === 0) {
      if (ofName) this.ofNames.delete(name!);
      else this.active.delete(api);
    }
    return { mode, afterMs: fault.after_ms };
  }
}

@Controller('faults')
export class FaultsController {
  constructor(private readonly faults: Faults) {}

  @Get()
  list(): object {
    const { active, ofNames } = this.faults;
    const names = Object.fromEntries(ofNames);
    return { active: Object.fromEntries(active), names, modes, operations: sesOperations };
  }

  @Put(':api')
  @HttpCode(204)
  switchOn(@Param('api') api: string, @Body() body: unknown): void {
    const known = apiOf(api);
    const fault = faultOf(known).safeParse(body);
    if (!fault.success) throw new BadRequestException(z.prettifyError(fault.error));
    if (fault.data.name !== undefined) this.faults.ofNames.set(fault.data.name, fault.data);
    else this.faults.active.set(known, fault.data);
  }

  @Delete()
  @HttpCode(204)
  switchAllOff(): void {
    this.faults.active.clear();
    this.faults.ofNames.clear();
  }

  @Delete(':api')
  @HttpCode(204)
  switchOff(@Param('api') api: string): void {
    const known = apiOf(api);
    this.faults.active.delete(known);
    if (known === 'ses') this.faults.ofNames.clear();
  }
}

function apiOf(text: string): Api {
  if (Object.hasOwn(modes, text)) return text as Api;
  throw new BadRequestException(`No API ${text}: one of ${Object.keys(modes).join(', ')}.`);
}
