import { BadRequestException, Body, Controller, Delete, Get, HttpCode, Param, Post, Put, Query } from '@nestjs/common';
import { canonical, Zone } from './zone';

@Controller('zone')
export class ZoneController {
  constructor(private readonly zone: Zone) {}

  /** Lists all records, or those at a name and below it. */
  @Get()
  list(@Query('name') name?: string): Record<string, Record<string, string[]>> {
    const entries = Object.entries(this.zone.all());
    const top = canonical(name ?? '');
    return Object.fromEntries(top ? entries.filter(([key]) => key === top || key.endsWith(`.${top}`)) : entries);
  }

  @Post('place')
  @HttpCode(200)
  place(@Body() body: unknown): { placed: string[] } {
    return { placed: this.zone.place(body) };
  }

  @Post('remove')
  @HttpCode(200)
  remove(@Body() body: unknown): { removed: string[] } {
    return { removed: this.zone.remove(body) };
  }

  @Put(':name/:type')
  @HttpCode(204)
  set(@Param('name') name: string, @Param('type') type: string, @Body() values: unknown): void {
    if (!Array.isArray(values) || values.some((value) => typeof value !== 'string'))
      throw new BadRequestException('Send a JSON array of values, such as ["10 mail.sendmux.ai"].');
    this.zone.set(name, type.toUpperCase(), values as string[]);
  }

  @Delete(':name/:type')
  @HttpCode(204)
  removeType(@Param('name') name: string, @Param('type') type: string): void {
    this.zone.set(name, type.toUpperCase(), []);
  }

  @Delete(':name')
  @HttpCode(204)
  removeName(@Param('name') name: string): void {
    this.zone.removeName(name);
  }
}
