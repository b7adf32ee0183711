import { Controller, Get, Inject, Param, Query, Req } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import type { Caller } from '@app/accounts';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, PageQuery, pageOf } from '../http/paging';
import { idParam } from './domain.dto';
import * as examples from './examples';
import { HistoryEnvelope } from './history.dto';
import { DomainHistory } from './history.service';

const entryIdForm = /^mdom_cl[0-9a-z]{25}\/[1-9]\d{0,8}$/;

/** Serves the events of a domain and who caused them. */
@ApiTags('domains')
@ApiBearerAuth('apiKey')
@Controller('/api/v1/domains')
export class HistoryController {
  constructor(@Inject(DomainHistory) private readonly history: DomainHistory) {}

  @Get(':id/history')
  @Requires('domain.read')
  @ApiOperation({
    operationId: 'readDomainHistory',
    summary: 'Read what happened to a domain, the oldest first',
    description:
      'Every event, in words and in data: who, when, by which request, and because of which other event. Entries are only ever added, at the end, so a page that was full stays as it is. Your team keeps the history of a domain that is deleted, also when somebody else has its name then, and of one whose provisioning failed.',
  })
  @ApiParam(idParam)
  @ApiSuccess(200, 'A page of the history.', HistoryEnvelope, examples.history)
  @ApiErrors('invalid_parameter', 'not_found')
  async read(
    @Param('id') id: string,
    @Query() query: PageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const after = lastOfPageBefore(query, entryIdForm);
    const entries = await this.history.page(id, team, query.limit + 1, after);
    return pageOf(entries, query, requestId, (entry) => entry);
  }
}
