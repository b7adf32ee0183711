import { Body, Controller, Get, Param, Put, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from '@app/accounts';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import {
  CurrentPreconditions,
  entityTag,
  IfMatchHeader,
  IfNoneMatchHeader,
  type Preconditions,
} from '../http/preconditions';
import { success } from '../http/success';
import { idParam } from './domain.dto';
import * as examples from './examples';
import { FiltersEnvelope, SetFiltersRequest } from './filters.dto';
import { SenderFilters, type Filters } from './filters.service';

/** Serves the rules by which the mailboxes of a domain take mail from some senders and refuse it from others. */
@ApiTags('domains')
@ApiBearerAuth('apiKey')
@Controller('/api/v1/domains/:id/filters')
export class FiltersController {
  constructor(private readonly filters: SenderFilters) {}

  @Get()
  @Requires('mailbox.read')
  @ApiOperation({
    operationId: 'managementGetDomainFilters',
    summary: 'Read whose mail the mailboxes of a domain take',
  })
  @ApiParam(idParam)
  @IfNoneMatchHeader()
  @ApiSuccess(200, 'The mode and the rules.', FiltersEnvelope, examples.filters, { ETag: 'Version of the domain.' })
  @ApiSuccess(304, 'The domain is still of that version.', null, undefined, { ETag: 'Version of the domain.' })
  @ApiErrors('not_found', 'conflict', 'precondition_failed')
  async find(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | undefined> {
    const filters = await this.filters.find(id, team);
    return preconditions.isUnchanged(filters.version, reply) ? undefined : success(present(filters), requestId);
  }

  @Put()
  @Requires('mailbox.update')
  @ApiOperation({
    operationId: 'managementSetDomainFilters',
    summary: 'Replace the rules about whose mail the mailboxes of a domain take',
    description:
      'The mode and all rules at once; the mail server follows within seconds. Mail to postmaster and abuse, and mail without a sender, such as a delivery report, is always taken.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The mode and the rules, in their canonical form.', FiltersEnvelope, examples.filters, {
    ETag: 'Version of the domain after it.',
  })
  @ApiErrors(
    'missing_parameter',
    'invalid_parameter',
    'not_found',
    'conflict',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async replace(
    @Param('id') id: string,
    @Body() { mode, rules }: SetFiltersRequest,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const written = rules.map(({ type, pattern, note = null }) => ({ type, pattern, note }));
    const filters = await this.filters.replace(id, mode, written, { caller, requestId, preconditions });
    void reply.header('etag', entityTag(filters.version));
    return success(present(filters), requestId);
  }
}

const present = ({ mode, rules }: Filters) => ({
  mode,
  rules: rules.map(({ type, pattern, note }) => ({ type, pattern, note })),
});
