import { BadRequestException, Body, Controller, Delete, Get, HttpCode, Injectable, Param, Put } from '@nestjs/common';
import { z } from 'zod';

/** What each API can be made to do wrong. */
const modes = {
  /** `hang`: no effect, no answer. `hang_after`: the effect, and no answer. */
  ses: ['refuse', 'throttle', 'error', 'garbage', 'hang', 'hang_after'],
  'doh-a': ['servfail', 'refused', 'hang', 'garbage', 'http_500', 'nxdomain'],
  'doh-b': ['servfail', 'refused', 'hang', 'garbage', 'http_500', 'nxdomain'],
  /** `refuse`: for good (550). `tempfail`: for now (451). `hang_up_after`: takes the mail, and ends without a word. */
  smtp: ['refuse', 'tempfail', 'hang_up_after'],
} as const;
export type Api = keyof typeof modes;

const faultOf = (api: Api) =>
  z.strictObject({
    mode: z.enum(modes[api]),
    /** SES operations it is limited to, such as `CreateEmailIdentity`. */
    operations: z.array(z.string()).optional(),
    /** Ends by itself after so many times. */
    times: z.int().positive().optional(),
  });
export type Fault = z.infer<ReturnType<typeof faultOf>>;

/** Switched on by HTTP, for as long as they are not switched off. */
@Injectable()
export class Faults {
  readonly active = new Map<Api, { -readonly [Key in keyof Fault]: Fault[Key] }>();

  /** The mode that an API is to play now, for this operation. */
  take(api: Api, operation?: string): string | undefined {
    const fault = this.active.get(api);
    if (!fault || (operation && fault.operations && !fault.operations.includes(operation))) return undefined;
    if (fault.times !== undefined && --fault.times === 0) this.active.delete(api);
    return fault.mode;
  }
}

@Controller('faults')
export class FaultsController {
  constructor(private readonly faults: Faults) {}

  @Get()
  list(): Record<string, unknown> {
    return { active: Object.fromEntries(this.faults.active), modes };
  }

  @Put(':api')
  @HttpCode(204)
  switchOn(@Param('api') api: string, @Body() body: unknown): void {
    if (!Object.hasOwn(modes, api))
      throw new BadRequestException(`No API ${api}: one of ${Object.keys(modes).join(', ')}`);
    const fault = faultOf(api as Api).safeParse(body);
    if (!fault.success) throw new BadRequestException(z.prettifyError(fault.error));
    this.faults.active.set(api as Api, fault.data);
  }

  @Delete()
  @HttpCode(204)
  switchAllOff(): void {
    this.faults.active.clear();
  }

  @Delete(':api')
  @HttpCode(204)
  switchOff(@Param('api') api: string): void {
    this.faults.active.delete(api as Api);
  }
}
