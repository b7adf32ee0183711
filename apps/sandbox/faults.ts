import { BadRequestException, Body, Controller, Delete, Get, HttpCode, Injectable, Param, Put } from '@nestjs/common';
import { z } from 'zod';

/**
 * What each API can be made to do wrong. `late`: the right answer, after `after_ms`. `hang`: no effect and no answer;
 * `hang_after` and `hang_up_after`: the effect, and no answer; `act_late`: no answer, and the effect after `after_ms`.
 */
const modes = {
  ses: ['refuse', 'throttle', 'error', 'garbage', 'late', 'act_late', 'hang', 'hang_after'],
  /** `bogus`: SERVFAIL, but for who checks the signatures himself; `lie`: a record that is not in the zone; `nxdomain`: no such name, whatever the zone holds. */
  'doh-a': ['servfail', 'bogus', 'refused', 'nxdomain', 'lie', 'garbage', 'http_500', 'late', 'hang'],
  'doh-b': ['servfail', 'bogus', 'refused', 'nxdomain', 'lie', 'garbage', 'http_500', 'late', 'hang'],
  /** At RCPT: `refuse` for good (550), `tempfail` for now (451), `hang`. After DATA: `hang_up_after`. */
  smtp: ['refuse', 'tempfail', 'hang', 'hang_up_after'],
} as const;
export type Api = keyof typeof modes;
export type Mode<Of extends Api> = (typeof modes)[Of][number];

export const sesOperations = [
  'CreateEmailIdentity',
  'GetEmailIdentity',
  'DeleteEmailIdentity',
  'PutEmailIdentityDkimSigningAttributes',
  'ListEmailIdentities',
] as const;
export type SesOperation = (typeof sesOperations)[number];

const faultOf = (api: Api) =>
  z.strictObject({
    mode: z.enum(modes[api]),
    /** Ends by itself after so many times. */
    times: z.int().positive().optional(),
    /** How late `late` and `act_late` are, in milliseconds. */
    after_ms: z.int().min(0).max(600_000).default(1_000),
    operations: api === 'ses' ? z.array(z.enum(sesOperations)).min(1).optional() : z.undefined().optional(),
  });

interface Fault {
  readonly mode: string;
  readonly operations?: readonly SesOperation[];
  readonly after_ms: number;
  times?: number;
}

/** Switched on by HTTP, for as long as they are not switched off. */
@Injectable()
export class Faults {
  readonly active = new Map<Api, Fault>();

  /**
   * What an API is to play now, and how late.
   *
   * @param among the modes that can be played at this point; another one is not used up.
   */
  take<Of extends Api, M extends Mode<Of>>(
    api: Of,
    { operation, among }: { operation?: SesOperation; among?: readonly M[] } = {},
  ): { mode: M; afterMs: number } | undefined {
    const fault = this.active.get(api);
    if (!fault || (operation && fault.operations && !fault.operations.includes(operation))) return undefined;
    const mode = fault.mode as M;
    if (among && !among.includes(mode)) return undefined;
    if (fault.times !== undefined && --fault.times === 0) this.active.delete(api);
    return { mode, afterMs: fault.after_ms };
  }
}

@Controller('faults')
export class FaultsController {
  constructor(private readonly faults: Faults) {}

  @Get()
  list(): object {
    return { active: Object.fromEntries(this.faults.active), modes, operations: sesOperations };
  }

  @Put(':api')
  @HttpCode(204)
  switchOn(@Param('api') api: string, @Body() body: unknown): void {
    const known = apiOf(api);
    const fault = faultOf(known).safeParse(body);
    if (!fault.success) throw new BadRequestException(z.prettifyError(fault.error));
    this.faults.active.set(known, fault.data);
  }

  @Delete()
  @HttpCode(204)
  switchAllOff(): void {
    this.faults.active.clear();
  }

  @Delete(':api')
  @HttpCode(204)
  switchOff(@Param('api') api: string): void {
    this.faults.active.delete(apiOf(api));
  }
}

function apiOf(text: string): Api {
  if (Object.hasOwn(modes, text)) return text as Api;
  throw new BadRequestException(`No API ${text}: one of ${Object.keys(modes).join(', ')}.`);
}
